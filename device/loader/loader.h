/* The loader: from a reset to the start of an image. */
#ifndef BLOCKOTA_LOADER_H
#define BLOCKOTA_LOADER_H

/* Continue an exchange of the slots that a power failure cut off, or begin one that is requested and allowed, or undo
 * one whose image was not confirmed; then start the image of slot 0. Without an image that may be started, reset. */
_Noreturn void loader_run(void);

#endif
