/* The exchange of the two slots, a page at a time. */
#ifndef BLOCKOTA_SWAP_H
#define BLOCKOTA_SWAP_H

#include <stdbool.h>
#include <stdint.h>

/* Return whether the exchange that this journal records has begun to change a slot. */
bool swap_has_begun(uint32_t journal);

/* Exchange the pages of both slots; continue where the journal ends. Return false if a page did not take its content;
 * a later call then tries again. */
bool swap_pages(uint32_t journal);

#endif
