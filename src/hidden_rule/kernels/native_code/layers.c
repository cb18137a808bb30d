/* Element-wise parts of a layer, each in one pass over memory; native.py compiles and calls this.

   Every function exists for float32 (…_float) and bfloat16 (…_bfloat16), whose numbers are rounded where PyTorch's own
   operators round them. Arrays are contiguous; sizes are in elements. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 8192 /* elements that a thread takes at a time */

static inline float widen(uint16_t low)
{
    uint32_t bits = (uint32_t)low << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* To the nearest, ties to even. What is not a number stays so: its low half is zero, here and in what processors make. */
static inline uint16_t narrow(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/* e to the x within two units in the last place (Cephes' polynomial, S. Moshier), written so that compilers vectorize
   it; x is at most 88, and from -87 down it is e to the -87, 1e-38. Not a number stays none. */
static inline float exponential(float x)
{
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

#define T float
#define NAME(name) name##_float
#define LOAD(x) (x)
#define STORE(x) (x)
#include "layers.h"
#undef T
#undef NAME
#undef LOAD
#undef STORE

#define T uint16_t
#define NAME(name) name##_bfloat16
#define LOAD(x) widen(x)
#define STORE(x) narrow(x)
#include "layers.h"
#undef T
#undef NAME
#undef LOAD
#undef STORE

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__) /* matrix units were not measured beside it */
#include "attention.h"
#endif
