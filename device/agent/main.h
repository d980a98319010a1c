#ifndef BLOCKOTA_MAIN_H
#define BLOCKOTA_MAIN_H

/* Reset the board when the answer to the request has been sent. */
void main_reset_after_answer(void);

#endif
