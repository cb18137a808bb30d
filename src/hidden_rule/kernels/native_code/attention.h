/* Attention over the stretches of a prefix tree (attention.py), for processors that multiply pairs of bfloat16 numbers:
   scores of a few queries at a time, which are never written to memory; Dao et al., arXiv 2205.14135.

   Sums are in float32. Weights, and the gradients of scores, are rounded to bfloat16 where they are multiplied again.
   Queries and what comes of them stand (token, head, width), keys and values (token, group, width); width is a multiple
   of 32. The queries of stretch `s` are the `counts[s]` tokens from `starts[s]` on, and stretches follow one another;
   `keys` (stretches, n_key) names the tokens whose keys they see, of which `first` and `last` (stretches, n_query) say
   which: from the first on, and before the last. */

#include <immintrin.h>
#include <stdlib.h>

#define LANES 16 /* float32 numbers of a register */
#define TILE 6 /* queries at a time: their sums stay in registers, VECTORS for each */
#define VECTORS 4
#define LOG2_E 1.44269504f

typedef float vector __attribute__((vector_size(4 * LANES)));

static inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

static inline vector load(const float *from) { return (vector)_mm512_loadu_ps(from); }

static inline void store(float *to, vector x) { _mm512_storeu_ps(to, (__m512)x); }

static inline void store_narrow(uint16_t *to, vector x)
{
    __m256bh low = _mm512_cvtneps_pbh((__m512)x);
    memcpy(to, &low, sizeof(low));
}

/* 2 to the x, within 1e-7 of it: a polynomial of least relative error on [-1/2, 1/2]. Not a number stays none. */
static inline vector power_of_two(vector x)
{
    vector n = (vector)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
    vector p = r * 1.32764602e-3f + 9.67554152e-3f;
    p = p * r + 5.55071331e-2f;
    p = p * r + 2.40221197e-1f;
    p = p * r + 6.93146967e-1f;
    p = p * r + 1.00000007f;
    return (vector)_mm512_scalef_ps((__m512)p, (__m512)n);
}

static inline int32_t between(int32_t low, int32_t x, int32_t high) { return x < low ? low : x > high ? high : x; }

/* Which of the LANES keys from `j` on are seen. */
static inline __mmask16 seen(int32_t j, int32_t first, int32_t last)
{
    return (0xffffu >> (LANES - between(0, last - j, LANES))) & (0xffffu << between(0, first - j, LANES));
}

/* Sums over pairs, c = a b or c += a b, of `rows` rows and LANES · vectors columns. Pair `k` of row `i` of a is at
   i · row + k · next; of b it stands for all columns side by side. */
static inline __attribute__((always_inline)) void multiply_tile(const uint32_t *a, int64_t row, int64_t next,
                                                                const uint32_t *b, int64_t b_width, int64_t pairs,
                                                                float *c, int64_t c_width, int add, const int rows,
                                                                const int vectors)
{
    __m512 sums[TILE][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v] = add ? _mm512_loadu_ps(c + i * c_width + v * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; k++) {
        __m512bh right[VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(b + k * b_width + v * LANES);
        for (int i = 0; i < rows; i++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32(a[i * row + k * next]);
            for (int v = 0; v < vectors; v++)
                sums[i][v] = _mm512_dpbf16_ps(sums[i][v], left, right[v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(c + i * c_width + v * LANES, sums[i][v]);
}

/* The same for up to TILE rows and any multiple of LANES columns. */
static void multiply(const uint32_t *a, int64_t row, int64_t next, const uint32_t *b, int64_t b_width, int64_t pairs,
                     float *c, int64_t c_width, int add, int64_t rows, int64_t columns)
{
    int64_t j = 0;
#define OF_ROWS(n)                                                                                                     \
    case n:                                                                                                            \
        for (; j + LANES * VECTORS <= columns; j += LANES * VECTORS)                                                   \
            multiply_tile(a, row, next, b + j, b_width, pairs, c + j, c_width, add, n, VECTORS);                       \
        for (; j < columns; j += LANES)                                                                                \
            multiply_tile(a, row, next, b + j, b_width, pairs, c + j, c_width, add, n, 1);                             \
        break;
    switch (rows) { /* as many registers as a compiler knows of */
        OF_ROWS(1)
        OF_ROWS(2)
        OF_ROWS(3)
        OF_ROWS(4)
        OF_ROWS(5)
        OF_ROWS(6)
    }
#undef OF_ROWS
}

/* Pairs of neighbours in each row, a column for each row: out (width / 2, columns), zero beyond the `n` rows that `index`
   names, which are `step` numbers apart. */
static void pack_columns(const uint16_t *x, int64_t step, const int64_t *index, int64_t n, int64_t columns,
                         int64_t width, uint32_t *out)
{
    memset(out, 0, width / 2 * columns * sizeof(uint32_t));
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; k < width / 2; k++)
            memcpy(out + k * columns + j, x + index[j] * step + 2 * k, sizeof(uint32_t));
}

/* Pairs of two rows' numbers; `odd` may be none, for zeros. */
static inline void pack_pair(const uint16_t *even, const uint16_t *odd, int64_t width, uint32_t *out)
{
#pragma omp simd
    for (int64_t d = 0; d < width; d++)
        out[d] = even[d];
    if (odd)
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            out[d] |= (uint32_t)odd[d] << 16;
}

/* Pairs of rows that follow one another: out (columns / 2, width), zero beyond the `n` rows that `index` names. */
static void pack_rows(const uint16_t *x, int64_t step, const int64_t *index, int64_t n, int64_t columns, int64_t width,
                      uint32_t *out)
{
    memset(out, 0, columns / 2 * width * sizeof(uint32_t));
    for (int64_t j = 0; j < n; j += 2)
        pack_pair(x + index[j] * step, j + 1 < n ? x + index[j + 1] * step : NULL, width, out + j / 2 * width);
}

/* Tokens of stretches; those after them repeat the last one, and are given what it is given, or zeros. */
static int64_t real_tokens(const int64_t *counts, int64_t stretches)
{
    int64_t n = 0;
    for (int64_t s = 0; s < stretches; s++)
        n += counts[s];
    return n;
}

/* out (tokens, heads, width) = softmax(query keyᵀ) value; `log_sums` (stretches, heads, n_query) are those of the powers
   of two whose shares the weights are. */
void attend_bfloat16(const uint16_t *query, const uint16_t *key, const uint16_t *value, const int64_t *starts,
                     const int64_t *counts, const int64_t *keys, const int64_t *first, const int64_t *last,
                     uint16_t *out, float *log_sums, int64_t tokens, int64_t stretches, int64_t n_query, int64_t n_key,
                     int64_t heads, int64_t groups, int64_t width)
{
    int64_t columns = up_to(n_key, LANES), share = heads / groups, token = heads * width;
#pragma omp parallel
    {
        uint32_t *key_columns = malloc(width / 2 * columns * sizeof(uint32_t));
        uint32_t *value_rows = malloc(columns / 2 * width * sizeof(uint32_t));
        float *scores = malloc(TILE * columns * sizeof(float)), *sums = malloc(TILE * width * sizeof(float));
        uint16_t *weights = malloc(TILE * columns * sizeof(uint16_t));
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < stretches * groups; task++) {
            int64_t s = task / groups, g = task % groups;
            pack_columns(key + g * width, groups * width, keys + s * n_key, n_key, columns, width, key_columns);
            pack_rows(value + g * width, groups * width, keys + s * n_key, n_key, columns, width, value_rows);
            for (int64_t h = g * share; h < (g + 1) * share; h++)
                for (int64_t q = 0; q < counts[s]; q += TILE) {
                    int64_t n = counts[s] - q < TILE ? counts[s] - q : TILE, at = s * n_query + q;
                    int64_t place = (starts[s] + q) * token + h * width, end = up_to(last[at + n - 1], LANES);
                    float totals[TILE];
                    multiply((const uint32_t *)(query + place), token / 2, 1, key_columns, columns, width / 2, scores,
                             columns, 0, n, end);
                    for (int64_t i = 0; i < n; i++) {
                        const float *row = scores + i * columns;
                        int32_t from = first[at + i], to = last[at + i];
                        __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
                        for (int64_t j = 0; j < end; j += LANES)
                            most = _mm512_mask_max_ps(most, seen(j, from, to), most, _mm512_loadu_ps(row + j));
                        float shift = _mm512_reduce_max_ps(most) * LOG2_E;
                        for (int64_t j = 0; j < end; j += LANES) {
                            __m512 power = (__m512)power_of_two(load(row + j) * LOG2_E - shift);
                            power = _mm512_maskz_mov_ps(seen(j, from, to), power);
                            total = _mm512_add_ps(total, power);
                            store_narrow(weights + i * columns + j, (vector)power);
                        }
                        totals[i] = _mm512_reduce_add_ps(total);
                        log_sums[(s * heads + h) * n_query + q + i] = shift + log2f(totals[i]);
                    }
                    multiply((const uint32_t *)weights, columns / 2, 1, value_rows, width, end / 2, sums, width, 0, n,
                             width);
                    for (int64_t i = 0; i < n; i++)
                        for (int64_t d = 0; d < width; d += LANES)
                            store_narrow(out + place + i * token + d, load(sums + i * width + d) / totals[i]);
                }
        }
        free(key_columns), free(value_rows), free(scores), free(sums), free(weights);
    }
    for (int64_t i = real_tokens(counts, stretches); i < tokens; i++)
        memcpy(out + i * token, out + (i - 1) * token, token * sizeof(uint16_t));
}

/* The gradients: of queries, and of each stretch's keys and values (stretches, groups, n_key, width). */
void attend_backward_bfloat16(const uint16_t *query, const uint16_t *key, const uint16_t *value, const uint16_t *grad,
                              const int64_t *starts, const int64_t *counts, const int64_t *keys, const int64_t *first,
                              const int64_t *last, const float *log_sums, uint16_t *grad_query, uint16_t *grad_keys,
                              uint16_t *grad_values, int64_t tokens, int64_t stretches, int64_t n_query, int64_t n_key,
                              int64_t heads, int64_t groups, int64_t width)
{
    int64_t columns = up_to(n_key, LANES), share = heads / groups, token = heads * width, most = up_to(n_query, 2);
    int64_t real = real_tokens(counts, stretches);
    memset(grad_query + real * token, 0, (tokens - real) * token * sizeof(uint16_t));
#pragma omp parallel
    {
        uint32_t *key_columns = malloc(width / 2 * columns * sizeof(uint32_t));
        uint32_t *value_columns = malloc(width / 2 * columns * sizeof(uint32_t));
        uint32_t *key_rows = malloc(columns / 2 * width * sizeof(uint32_t));
        float *scores = malloc(TILE * columns * sizeof(float)), *inner = malloc(TILE * columns * sizeof(float));
        float *sums = malloc(TILE * width * sizeof(float));
        uint16_t *weights = malloc(most * columns * sizeof(uint16_t)); /* of one head's queries, as what follows */
        uint16_t *slopes = malloc(most * columns * sizeof(uint16_t)); /* gradients of scores */
        uint32_t *weight_rows = malloc(most / 2 * columns * sizeof(uint32_t));
        uint32_t *slope_rows = malloc(most / 2 * columns * sizeof(uint32_t));
        uint32_t *query_rows = malloc(most / 2 * width * sizeof(uint32_t));
        uint32_t *grad_rows = malloc(most / 2 * width * sizeof(uint32_t));
        float *of_keys = malloc(columns * width * sizeof(float)), *of_values = malloc(columns * width * sizeof(float));
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < stretches * groups; task++) {
            int64_t s = task / groups, g = task % groups, count = counts[s], pairs = up_to(count, 2) / 2;
            const int64_t *own = keys + s * n_key, *ends = last + s * n_query;
            pack_columns(key + g * width, groups * width, own, n_key, columns, width, key_columns);
            pack_columns(value + g * width, groups * width, own, n_key, columns, width, value_columns);
            pack_rows(key + g * width, groups * width, own, n_key, columns, width, key_rows);
            memset(of_keys, 0, columns * width * sizeof(float));
            memset(of_values, 0, columns * width * sizeof(float));
            for (int64_t h = g * share; h < (g + 1) * share; h++) {
                int64_t begin = starts[s] * token + h * width;
                for (int64_t q = 0; q < count; q += TILE) {
                    int64_t n = count - q < TILE ? count - q : TILE, place = begin + q * token;
                    int64_t end = up_to(ends[q + n - 1], LANES);
                    multiply((const uint32_t *)(query + place), token / 2, 1, key_columns, columns, width / 2, scores,
                             columns, 0, n, end);
                    multiply((const uint32_t *)(grad + place), token / 2, 1, value_columns, columns, width / 2, inner,
                             columns, 0, n, end);
                    for (int64_t i = 0; i < n; i++) {
                        float *row = scores + i * columns, *above = inner + i * columns;
                        uint16_t *weight = weights + (q + i) * columns, *slope = slopes + (q + i) * columns;
                        int32_t from = first[s * n_query + q + i], to = ends[q + i];
                        float shift = log_sums[(s * heads + h) * n_query + q + i];
                        vector total = {0};
                        for (int64_t j = 0; j < end; j += LANES) {
                            __m512 power = (__m512)power_of_two(load(row + j) * LOG2_E - shift);
                            vector share_of = (vector)_mm512_maskz_mov_ps(seen(j, from, to), power);
                            total += share_of * load(above + j);
                            store_narrow(weight + j, share_of);
                            store(row + j, share_of);
                        }
                        float mean = _mm512_reduce_add_ps((__m512)total);
                        for (int64_t j = 0; j < end; j += LANES)
                            store_narrow(slope + j, load(row + j) * (load(above + j) - mean));
                        memset(weight + end, 0, (columns - end) * sizeof(uint16_t));
                        memset(slope + end, 0, (columns - end) * sizeof(uint16_t));
                    }
                    multiply((const uint32_t *)(slopes + q * columns), columns / 2, 1, key_rows, width, end / 2, sums,
                             width, 0, n, width);
                    for (int64_t i = 0; i < n; i++)
                        for (int64_t d = 0; d < width; d += LANES)
                            store_narrow(grad_query + place + i * token + d, load(sums + i * width + d));
                }
                for (int64_t q = 0; q < count; q += 2) {
                    int64_t odd = q + 1 < count, to_rows = q / 2 * width, to_columns = q / 2 * columns;
                    const uint16_t *a = query + begin + q * token, *b = grad + begin + q * token;
                    const uint16_t *c = weights + q * columns, *d = slopes + q * columns;
                    pack_pair(a, odd ? a + token : NULL, width, query_rows + to_rows);
                    pack_pair(b, odd ? b + token : NULL, width, grad_rows + to_rows);
                    pack_pair(c, odd ? c + columns : NULL, columns, weight_rows + to_columns);
                    pack_pair(d, odd ? d + columns : NULL, columns, slope_rows + to_columns);
                }
                for (int64_t j = 0, skip = 0; j < n_key; j += TILE) {
                    while (skip < count && ends[skip] <= j) /* queries that see none of these keys */
                        skip++;
                    int64_t n = n_key - j < TILE ? n_key - j : TILE, k = skip / 2;
                    multiply(weight_rows + k * columns + j, 1, columns, grad_rows + k * width, width, pairs - k,
                             of_values + j * width, width, 1, n, width);
                    multiply(slope_rows + k * columns + j, 1, columns, query_rows + k * width, width, pairs - k,
                             of_keys + j * width, width, 1, n, width);
                }
            }
            for (int64_t i = 0; i < n_key * width; i += LANES) {
                store_narrow(grad_keys + task * n_key * width + i, load(of_keys + i));
                store_narrow(grad_values + task * n_key * width + i, load(of_values + i));
            }
        }
        free(key_columns), free(value_columns), free(key_rows), free(scores), free(inner), free(sums), free(weights);
        free(slopes), free(weight_rows), free(slope_rows), free(query_rows), free(grad_rows), free(of_keys);
        free(of_values);
    }
}

#undef LANES
#undef TILE
#undef VECTORS
#undef LOG2_E
