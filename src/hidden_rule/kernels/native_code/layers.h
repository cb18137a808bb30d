/* The functions of layers.c for numbers of the type T; ROUND is what storing and loading one makes of it. */

#define ROUND(x) LOAD(STORE(x))

/* Zhang and Sennrich, arXiv 1910.07467: out = w · x / rms(x), `inverse` is 1 / rms(x) of each row. */
void NAME(norm_forward)(const T *x, const T *w, float eps, T *out, float *inverse, int64_t rows, int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *in = x + i * width;
        T *to = out + i * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < width; j++) {
            float v = LOAD(in[j]);
            sum += v * v;
        }
        float scale = 1.0f / sqrtf(sum / width + eps);
        inverse[i] = scale;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            to[j] = STORE(LOAD(w[j]) * ROUND(LOAD(in[j]) * scale));
    }
}

void NAME(norm_backward)(const T *grad, const T *x, const T *w, const float *inverse, T *out, int64_t rows,
                         int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *in = x + i * width, *from = grad + i * width;
        T *to = out + i * width;
        float scale = inverse[i], sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < width; j++)
            sum += ROUND(LOAD(from[j]) * LOAD(w[j])) * (LOAD(in[j]) * scale);
        float mean = sum / width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            to[j] = STORE((ROUND(LOAD(from[j]) * LOAD(w[j])) - LOAD(in[j]) * scale * mean) * scale);
    }
}

/* Shazeer, arXiv 2002.05202: out = silu(gate) · up. */
void NAME(gate_forward)(const T *gate, const T *up, T *out, int64_t size)
{
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < size; block += BLOCK) {
        int64_t end = block + BLOCK < size ? block + BLOCK : size;
#pragma omp simd
        for (int64_t i = block; i < end; i++) {
            float g = LOAD(gate[i]);
            out[i] = STORE(ROUND(g / (1.0f + exponential(g < -88.0f ? 88.0f : -g))) * LOAD(up[i]));
        }
    }
}

/* The gradients of gate and up; `grad` is that of out, and is overwritten by gate's. */
void NAME(gate_backward)(const T *gate, const T *up, T *grad, T *grad_up, int64_t size)
{
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < size; block += BLOCK) {
        int64_t end = block + BLOCK < size ? block + BLOCK : size;
#pragma omp simd
        for (int64_t i = block; i < end; i++) {
            float g = LOAD(gate[i]), inner = LOAD(grad[i]);
            float sigmoid = 1.0f / (1.0f + exponential(g < -88.0f ? 88.0f : -g));
            grad_up[i] = STORE(ROUND(g * sigmoid) * inner);
            grad[i] = STORE(ROUND(inner * LOAD(up[i])) * sigmoid * (1.0f + g * (1.0f - sigmoid)));
        }
    }
}

/* Su et al., arXiv 2104.09864, halves rotated against each other: x (rows, heads, width), cos and sin (rows, width). */
void NAME(rotate)(const T *x, const T *cos, const T *sin, float scale, T *out, int64_t rows, int64_t heads,
                  int64_t width)
{
    int64_t half = width / 2;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *c = cos + i * width, *s = sin + i * width;
        for (int64_t h = 0; h < heads; h++) {
            const T *in = x + (i * heads + h) * width;
            T *to = out + (i * heads + h) * width;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                float a = LOAD(in[j]), b = LOAD(in[j + half]);
                float low = ROUND(ROUND(a * LOAD(c[j])) - ROUND(b * LOAD(s[j])));
                float high = ROUND(ROUND(b * LOAD(c[j + half])) + ROUND(a * LOAD(s[j + half])));
                to[j] = STORE(low * scale);
                to[j + half] = STORE(high * scale);
            }
        }
    }
}

void NAME(rotate_backward)(const T *grad, const T *cos, const T *sin, float scale, T *out, int64_t rows, int64_t heads,
                           int64_t width)
{
    int64_t half = width / 2;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *c = cos + i * width, *s = sin + i * width;
        for (int64_t h = 0; h < heads; h++) {
            const T *in = grad + (i * heads + h) * width;
            T *to = out + (i * heads + h) * width;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                float low = LOAD(in[j]) * scale, high = LOAD(in[j + half]) * scale;
                to[j] = STORE(low * LOAD(c[j]) + high * LOAD(s[j + half]));
                to[j + half] = STORE(high * LOAD(c[j + half]) - low * LOAD(s[j]));
            }
        }
    }
}

/* Where row `i`, head `h` begins: rows one after the other, or in stretches (stretch, head, row of it). */
static inline int64_t NAME(place)(int64_t i, int64_t h, int64_t stretch, int64_t heads, int64_t width)
{
    if (stretch == 0)
        return (i * heads + h) * width;
    return ((i / stretch * heads + h) * stretch + i % stretch) * width;
}

/* out row i = the sum of x's rows sources[offsets[i] … offsets[i + 1]]; `from` and `to` are the lengths of stretches of
   x and out, or 0. */
void NAME(move_rows)(const T *x, int64_t from, T *out, int64_t to, const int64_t *offsets, const int64_t *sources,
                     int64_t rows, int64_t heads, int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        int64_t first = offsets[i], last = offsets[i + 1];
        for (int64_t h = 0; h < heads; h++) {
            T *target = out + NAME(place)(i, h, to, heads, width);
            if (last == first) {
                memset(target, 0, width * sizeof(T));
            } else if (last == first + 1) {
                memcpy(target, x + NAME(place)(sources[first], h, from, heads, width), width * sizeof(T));
            } else {
                float sum[width]; /* not of one block after another: compilers make slow code of that */
                memset(sum, 0, sizeof(sum));
                for (int64_t s = first; s < last; s++) {
                    const T *source = x + NAME(place)(sources[s], h, from, heads, width);
#pragma omp simd
                    for (int64_t j = 0; j < width; j++)
                        sum[j] += LOAD(source[j]);
                }
#pragma omp simd
                for (int64_t j = 0; j < width; j++)
                    target[j] = STORE(sum[j]);
            }
        }
    }
}

/* The columns up to `n` and to the end of a vector, of `keys` in all. */
static inline int64_t NAME(whole_vectors)(int64_t n, int64_t keys)
{
    int64_t whole = (n + 31) / 32 * 32;
    return whole < keys ? whole : keys;
}

/* Softmax in place over each row's columns from first[row] on and before last[row], zero elsewhere; rows stand (stretch,
   head, query), and first and last (stretch, query). */
void NAME(softmax)(T *scores, const int64_t *first, const int64_t *last, int64_t stretches, int64_t heads,
                   int64_t queries, int64_t keys)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stretches * heads * queries; i++) {
        int64_t query = i / (heads * queries) * queries + i % queries;
        int32_t low = first[query], high = last[query], end = NAME(whole_vectors)(high, keys);
        T *row = scores + i * keys;
        float most = -INFINITY, sum = 0, part[keys];
#pragma omp simd
        for (int32_t j = 0; j < end; j++)
            part[j] = LOAD(row[j]);
        for (int32_t j = 0; j < low; j++)
            part[j] = -INFINITY;
        for (int32_t j = high; j < end; j++)
            part[j] = -INFINITY;
#pragma omp simd reduction(max : most)
        for (int32_t j = 0; j < end; j++)
            most = part[j] > most ? part[j] : most;
#pragma omp simd
        for (int32_t j = 0; j < end; j++)
            part[j] = exponential(part[j] - most);
        for (int32_t j = 0; j < low; j++)
            part[j] = 0;
        for (int32_t j = high; j < end; j++)
            part[j] = 0;
#pragma omp simd reduction(+ : sum)
        for (int32_t j = 0; j < end; j++)
            sum += part[j];
        float scale = 1.0f / sum;
#pragma omp simd
        for (int32_t j = 0; j < end; j++)
            row[j] = STORE(part[j] * scale);
        memset(row + end, 0, (keys - end) * sizeof(T));
    }
}

/* The gradient of the scores, in the place of `grad`, that of the weights. */
void NAME(softmax_backward)(const T *weights, T *grad, const int64_t *last, int64_t stretches, int64_t heads,
                            int64_t queries, int64_t keys)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stretches * heads * queries; i++) {
        int64_t query = i / (heads * queries) * queries + i % queries;
        int64_t end = NAME(whole_vectors)(last[query], keys);
        const T *weight = weights + i * keys; /* zero where masked */
        T *row = grad + i * keys;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < end; j++)
            sum += LOAD(weight[j]) * LOAD(row[j]);
#pragma omp simd
        for (int64_t j = 0; j < end; j++)
            row[j] = STORE(LOAD(weight[j]) * (LOAD(row[j]) - sum));
        memset(row + end, 0, (keys - end) * sizeof(T));
    }
}

/* Of each row of logits over a vocabulary: the chosen token's log-probability, the entropy in nats, whether the token is
   the likeliest, and the logarithm of the sum of powers. */
void NAME(score_tokens)(const T *logits, const int64_t *chosen, float *log_prob, float *entropy, uint8_t *is_top,
                        float *log_sum, int64_t rows, int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *row = logits + i * width;
        float most = -INFINITY, sum = 0, product = 0;
#pragma omp simd reduction(max : most)
        for (int64_t j = 0; j < width; j++)
            most = LOAD(row[j]) > most ? LOAD(row[j]) : most;
#pragma omp simd reduction(+ : sum, product)
        for (int64_t j = 0; j < width; j++) {
            float below = LOAD(row[j]) - most, power = exponential(below);
            sum += power;
            product += power * below;
        }
        float own = LOAD(row[chosen[i]]), log_of_sum = logf(sum);
        log_prob[i] = own - most - log_of_sum;
        entropy[i] = log_of_sum - product / sum;
        is_top[i] = own == most;
        log_sum[i] = most + log_of_sum;
    }
}

/* The gradient of the logits; `grad` is that of the log-probabilities. */
void NAME(score_tokens_backward)(const T *logits, const int64_t *chosen, const float *log_sum, const float *grad, T *out,
                                 int64_t rows, int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const T *row = logits + i * width;
        T *to = out + i * width;
        float shift = log_sum[i], scale = grad[i];
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            to[j] = STORE(-scale * exponential(LOAD(row[j]) - shift));
        to[chosen[i]] = STORE(scale * (1.0f - exponential(LOAD(row[chosen[i]]) - shift)));
    }
}

#undef ROUND
