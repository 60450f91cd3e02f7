/* How fast this processor can multiply a step's matrices by its vectors, from the same bytes: the least that a step may
 * take. There is nothing else in here: no look-up, no squashing, no state. benchmarks/limit.py compiles and calls it.
 *
 * Weights are packed in tiles of 64 outputs, so that no sum ever crosses a vector: within a tile, all inputs of an fp32
 * matrix one by one, of an int8 matrix four by four, of an int4 matrix eight by eight, for each of the outputs. int8
 * and int4 activations are bytes, unsigned beside signed weights, and signed beside unsigned weights. With AVX-512 and
 * VNNI every instruction is spelled out; elsewhere the compiler vectorizes plain loops.
 */
#include <stddef.h>
#include <stdint.h>
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && !defined(BY_COMPILER)
#include <immintrin.h>
#define BY_HAND 1
#endif

#define TILE 64     /* outputs */
#define VECTORS 4   /* in a tile */
#define MOST 5      /* rows at a time: each loaded weight serves as many products */
#define BLOCK 32    /* 4-bit weights to a scale */
#define AHEAD 2048  /* bytes */

#define SIGNATURE(name) \
    __attribute__((always_inline)) static inline void name( \
        const void *x, const void *w, const float *restrict scales, size_t inputs, size_t outputs, float *restrict y, \
        const int batch)

#ifdef BY_HAND
#define EACH(v, b) for (int v = 0; v < VECTORS; v++) for (int b = 0; b < batch; b++)
static inline __m512i four_bytes(const void *at) { return _mm512_set1_epi32(*(const int32_t *)at); }
static inline __m512i next(const uint8_t **at) {
    _mm_prefetch((const char *)*at + AHEAD, _MM_HINT_T0);
    const __m512i loaded = _mm512_loadu_si512(*at);
    *at += 64;
    return loaded;
}
#endif

SIGNATURE(fp32) {
    const float *activations = x;
    (void)scales;
    for (size_t tile = 0; tile < outputs; tile += TILE) {
        const float *from = (const float *)w + tile * inputs;
#ifdef BY_HAND
        const uint8_t *at = (const uint8_t *)from;
        __m512 sums[VECTORS][MOST];
        EACH(v, b) sums[v][b] = _mm512_setzero_ps();
        for (size_t i = 0; i < inputs; i++)
            for (int v = 0; v < VECTORS; v++) {
                const __m512 weights = _mm512_castsi512_ps(next(&at));
                for (int b = 0; b < batch; b++)
                    sums[v][b] = _mm512_fmadd_ps(weights, _mm512_set1_ps(activations[b * inputs + i]), sums[v][b]);
            }
        EACH(v, b) _mm512_storeu_ps(y + b * outputs + tile + v * 16, sums[v][b]);
#else
        for (int b = 0; b < batch; b++) {
            float sums[TILE] = {0};
            for (size_t i = 0; i < inputs; i++)
                for (int o = 0; o < TILE; o++) sums[o] += from[i * TILE + o] * activations[b * inputs + i];
            for (int o = 0; o < TILE; o++) y[b * outputs + tile + o] = sums[o];
        }
#endif
    }
}

SIGNATURE(int8) {
    const uint8_t *activations = x;
    for (size_t tile = 0; tile < outputs; tile += TILE) {
        const int8_t *from = (const int8_t *)w + tile * inputs;
#ifdef BY_HAND
        const uint8_t *at = (const uint8_t *)from;
        __m512i sums[VECTORS][MOST];
        EACH(v, b) sums[v][b] = _mm512_setzero_si512();
        for (size_t i = 0; i < inputs; i += 4)
            for (int v = 0; v < VECTORS; v++) {
                const __m512i weights = next(&at);
                for (int b = 0; b < batch; b++)
                    sums[v][b] = _mm512_dpbusd_epi32(sums[v][b], four_bytes(activations + b * inputs + i), weights);
            }
        EACH(v, b) {
            const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[v][b]), _mm512_loadu_ps(scales + tile + v * 16));
            _mm512_storeu_ps(y + b * outputs + tile + v * 16, scaled);
        }
#else
        for (int b = 0; b < batch; b++) {
            int32_t sums[TILE] = {0};
            for (size_t i = 0; i < inputs; i += 4)
                for (int o = 0; o < TILE; o++)
                    for (int k = 0; k < 4; k++) sums[o] += from[i * TILE + o * 4 + k] * activations[b * inputs + i + k];
            for (int o = 0; o < TILE; o++) y[b * outputs + tile + o] = (float)sums[o] * scales[tile + o];
        }
#endif
    }
}

SIGNATURE(int4) {
    const int8_t *activations = x;
    for (size_t tile = 0; tile < outputs; tile += TILE) {
        const uint8_t *at = (const uint8_t *)w + tile * inputs / 2;
        const float *scale = scales + tile * inputs / BLOCK;
#ifdef BY_HAND
        const __m512i half = _mm512_set1_epi8(15);
        __m512 totals[VECTORS][MOST];
        EACH(v, b) totals[v][b] = _mm512_setzero_ps();
        for (size_t block = 0; block < inputs; block += BLOCK, scale += TILE) {
            __m512i sums[VECTORS][MOST];
            EACH(v, b) sums[v][b] = _mm512_setzero_si512();
            for (size_t i = block; i < block + BLOCK; i += 8)
                for (int v = 0; v < VECTORS; v++) {
                    const __m512i both = next(&at), low = _mm512_and_si512(both, half);
                    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), half);
                    for (int b = 0; b < batch; b++) {
                        const int8_t *eight = activations + b * inputs + i;
                        sums[v][b] = _mm512_dpbusd_epi32(sums[v][b], low, four_bytes(eight));
                        sums[v][b] = _mm512_dpbusd_epi32(sums[v][b], high, four_bytes(eight + 4));
                    }
                }
            EACH(v, b)
                totals[v][b] = _mm512_fmadd_ps(
                    _mm512_cvtepi32_ps(sums[v][b]), _mm512_loadu_ps(scale + v * 16), totals[v][b]);
        }
        EACH(v, b) _mm512_storeu_ps(y + b * outputs + tile + v * 16, totals[v][b]);
#else
        for (int b = 0; b < batch; b++) {
            float totals[TILE] = {0};
            for (size_t block = 0; block < inputs; block += BLOCK) {
                int32_t sums[TILE] = {0};
                for (size_t i = block; i < block + BLOCK; i += 8)
                    for (int o = 0; o < TILE; o++)
                        for (int k = 0; k < 4; k++) {
                            const uint8_t both = at[i * TILE / 2 + o * 4 + k];
                            sums[o] += (both & 15) * activations[b * inputs + i + k];
                            sums[o] += (both >> 4) * activations[b * inputs + i + 4 + k];
                        }
                for (int o = 0; o < TILE; o++) totals[o] += (float)sums[o] * scale[block / BLOCK * TILE + o];
            }
            for (int o = 0; o < TILE; o++) y[b * outputs + tile + o] = totals[o];
        }
#endif
    }
}

/* y, float (batch, outputs), is x (batch, inputs) times w. bits: 32, 8 or 4 of a weight; batch: 1 or 5; inputs and
 * outputs: multiples of BLOCK and of TILE. Returns 1 for any other bits or batch, and 0 otherwise. */
int multiply(
    int bits, int batch, const void *x, const void *w, const float *scales, size_t inputs, size_t outputs, float *y) {
#define CASE(b, n, name) if (bits == b && batch == n) { name(x, w, scales, inputs, outputs, y, n); return 0; }
    CASE(32, 1, fp32) CASE(32, 5, fp32) CASE(8, 1, int8) CASE(8, 5, int8) CASE(4, 1, int4) CASE(4, 5, int4)
    return 1;
}
