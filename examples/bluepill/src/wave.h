/* One period of a sine wave, as signed 16-bit numbers with 15 bits after the binary point. */
#ifndef WAVE_H
#define WAVE_H

#include <stdint.h>

#define WAVE_STEPS 30000u

extern const int16_t wave[WAVE_STEPS];

#endif
