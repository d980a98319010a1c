/* The table of wave.h; the compiler computes it, so the repository needs no generated file. */
#include "wave.h"

#define TURN 6.283185307179586
#define SAMPLE(step) (int16_t)__builtin_round(32767.0 * __builtin_sin(TURN * (step) / WAVE_STEPS)),
#define SAMPLES_10(step)                                                                     \
    SAMPLE(step) SAMPLE(step + 1) SAMPLE(step + 2) SAMPLE(step + 3) SAMPLE(step + 4)         \
    SAMPLE(step + 5) SAMPLE(step + 6) SAMPLE(step + 7) SAMPLE(step + 8) SAMPLE(step + 9)
#define SAMPLES_100(step)                                                                    \
    SAMPLES_10(step) SAMPLES_10(step + 10) SAMPLES_10(step + 20) SAMPLES_10(step + 30)       \
    SAMPLES_10(step + 40) SAMPLES_10(step + 50) SAMPLES_10(step + 60) SAMPLES_10(step + 70)  \
    SAMPLES_10(step + 80) SAMPLES_10(step + 90)
#define SAMPLES_1000(step)                                                                   \
    SAMPLES_100(step) SAMPLES_100(step + 100) SAMPLES_100(step + 200) SAMPLES_100(step + 300)\
    SAMPLES_100(step + 400) SAMPLES_100(step + 500) SAMPLES_100(step + 600)                  \
    SAMPLES_100(step + 700) SAMPLES_100(step + 800) SAMPLES_100(step + 900)
#define SAMPLES_10000(step)                                                                  \
    SAMPLES_1000(step) SAMPLES_1000(step + 1000) SAMPLES_1000(step + 2000)                   \
    SAMPLES_1000(step + 3000) SAMPLES_1000(step + 4000) SAMPLES_1000(step + 5000)            \
    SAMPLES_1000(step + 6000) SAMPLES_1000(step + 7000) SAMPLES_1000(step + 8000)            \
    SAMPLES_1000(step + 9000)

const int16_t wave[WAVE_STEPS] = {SAMPLES_10000(0) SAMPLES_10000(10000) SAMPLES_10000(20000)};
