/* The clock of the core (RM0008 section 7). */
#ifndef BLOCKOTA_CLOCK_H
#define BLOCKOTA_CLOCK_H

/* Raise the clock to 24 MHz, from the internal oscillator: the fastest one at which flash needs no wait state (PM0075
 * section 3.1). */
void clock_raise(void);

/* Return to the clock of a reset, 8 MHz. */
void clock_restore(void);

#endif
