// Training and prediction of plain CNNs on one thread: convolution, max pooling, ReLU; dense, ReLU, dropout; logits.
//
// What makes it fast: an image stays in the first-level cache from one layer to the next; convolutions and dense
// layers share one register-tiled product; and as max pooling lets one position in four or so take part in the
// gradient, and ReLU half of those, the gradients of a convolution touch these alone.
//
// A matrix of weights, (rows, columns), is kept in panels of PANEL columns, each stored row by row; its number of
// columns is padded to whole vectors. Padding is zero and stays zero. Vectors have 16 lanes on every processor, so that
// sums have one order.

typedef float vec __attribute__((ext_vector_type(16)));
typedef float loose __attribute__((ext_vector_type(16), aligned(4)));  // at any address
typedef int ivec __attribute__((ext_vector_type(16)));
typedef int iloose __attribute__((ext_vector_type(16), aligned(4)));
typedef unsigned uvec __attribute__((ext_vector_type(16)));

enum { LANES = 16, PANEL = 32, BLOCKS = 8, LAYERS = 9, GRID = 64, FILTERS = 4096 };

// How many sums fit into the registers: rows of a tile, vectors across it, and vectors of a gathered gradient. They
// change no sum's order, and so no result.
#ifdef __AVX512F__
enum { TILE = 8, ACROSS = 2, GATHERED = 18 };
#else
enum { TILE = 6, ACROSS = 1, GATHERED = 6 };
#endif

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int height, width, channels;        // of the input
    int kernel, pool, filters;          // square, no padding; pooling in steps of its own size
    int pooled_height, pooled_width;    // of the output
    long weights, bias;                 // where they start in the parameters
    float *output;                      // (images, stride): pooled height × pooled width × filters, then padding
    int *choice;                        // like output: where in the input the patch of the largest position of a pool
                                        // starts, times GRID, and which position of the pool it is
    float *input_gradient;              // height × width × channels of one image
    float *turned, *gradient;           // (filters, kernel, row): weights and their gradients, filter by filter
    long stride;                        // numbers from one image to the next in output and choice
    int row;                            // kernel × channels, padded
} Block;

typedef struct {
    int inputs, units;
    long weights, bias;
    float *output;                      // (images, stride)
    float *gradient;                    // (images, stride) of the output
    long stride;
} Dense;

typedef struct {
    int blocks, layers;                 // convolution blocks, then dense layers, the last one gives the logits
    int height, width, channels;        // of an image; of features, 1 × 1 × their number
    int floats;                         // what comes in: 0 uint8, of which 1/255 is taken; 1 float32
    float dropout;                      // in front of the last layer
    long parameters;
    float *weights, *gradient, *first, *second;  // parameters, their gradients, and Adam's moments
    float *input;                       // (images, input stride)
    long input_stride;
    float *across, *turned;             // room for a layer's gradients, turned
    float *rowbuffer;                   // pool × row of a convolution's output
    float *top_gradient;                // like the last block's output
    Block block[BLOCKS];
    Dense layer[LAYERS];
} Network;

INLINE int padded(int count) { return (count + LANES - 1) / LANES * LANES; }
INLINE int least(int a, int b) { return a < b ? a : b; }

// ---- one product for all layers

// T rows by V vectors of c = (c +) a · b. `a` comes in segments, such as the rows of a convolution's kernel.
INLINE void tile(const int T, const int V, int segments, long segment, int length, const float *a, long row_a,
                 long step_a, const float *b, long row_b, float *c, long row_c, int add) {
    vec sum[T][V];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < V; v++) sum[t][v] = add ? (vec) * (const loose *)(c + t * row_c + v * LANES) : (vec)0;
    for (int s = 0; s < segments; s++) {
        const float *start = a + s * segment;
        for (int k = 0; k < length; k++, b += row_b) {
            vec right[V];
            for (int v = 0; v < V; v++) right[v] = *(const loose *)(b + v * LANES);
            for (int t = 0; t < T; t++)
                for (int v = 0; v < V; v++) sum[t][v] += start[t * row_a + k * step_a] * right[v];
        }
    }
    for (int t = 0; t < T; t++)
        for (int v = 0; v < V; v++) *(loose *)(c + t * row_c + v * LANES) = sum[t][v];
}

// The same for any number of rows, in tiles of about equal height.
static void rows(int count, int vectors, int segments, long segment, int length, const float *a, long row_a,
                 long step_a, const float *b, long row_b, float *c, long row_c, int add) {
    int tiles = (count + TILE - 1) / TILE;
    for (int t = 0, first = 0; t < tiles; t++) {
        int height = (count - first + tiles - t - 1) / (tiles - t);
        const float *from = a + first * row_a;
        for (int v = 0, width = least(ACROSS, vectors); v < vectors; v += width) {
            const float *right = b + v * LANES;
            float *to = c + first * row_c + v * LANES;
#define TILED(T, V) tile(T, V, segments, segment, length, from, row_a, step_a, right, row_b, to, row_c, add)
#define CASE(T) case T: if (width == ACROSS) TILED(T, ACROSS); else TILED(T, 1); break;
            switch (height) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
#undef TILED
        }
        first += height;
    }
}

// A matrix: in panels, or row by row with `stride` numbers from one row to the next.
typedef struct { float *data; long stride; int panels; } Matrix;

INLINE float *panel_of(Matrix m, int rows, int column) { return m.data + (m.panels ? (long)rows * column : column); }
INLINE long row_of(Matrix m, int width) { return m.panels ? width : m.stride; }

// c = a · b: (m, k) by (k, n), n padded.
static void product(int m, int k, int n, const float *a, long row_a, long step_a, Matrix b, Matrix c) {
    for (int column = 0; column < n; column += PANEL) {
        int width = least(PANEL, n - column);
        rows(m, width / LANES, 1, 0, k, a, row_a, step_a, panel_of(b, k, column), row_of(b, width),
             panel_of(c, m, column), row_of(c, width), 0);
    }
}

static void turn(int m, int n, const float *from, long row_from, float *to, long row_to) {
    for (int i = 0; i < m; i += LANES)
        for (int j = 0; j < n; j++)
            for (int k = i; k < least(m, i + LANES); k++) to[j * row_to + k] = from[k * row_from + j];
}

// ---- forward

static void convolve(const Network *net, const Block *b, const float *input, float *output, int *choice) {
    const float *weights = net->weights + b->weights, *bias = net->weights + b->bias;
    int columns = padded(b->filters), reach = b->pooled_width * b->pool, line = b->width * b->channels;
    for (int py = 0; py < b->pooled_height; py++) {
        for (int dy = 0; dy < b->pool; dy++)
            for (int column = 0; column < columns; column += PANEL) {
                int width = least(PANEL, columns - column);
                rows(reach, width / LANES, b->kernel, line, b->kernel * b->channels,
                     input + (py * b->pool + dy) * line, b->channels, 1,
                     weights + (long)b->kernel * b->kernel * b->channels * column, width,
                     net->rowbuffer + (long)dy * reach * columns + column, columns, 0);
            }
        for (int px = 0; px < b->pooled_width; px++) {  // in order: a pixel's padding is the next one's place
            long place = ((long)py * b->pooled_width + px) * b->filters;
            int patch = py * b->pool * line + px * b->pool * b->channels;
            for (int column = 0; column < columns; column += LANES) {
                const float *at = net->rowbuffer + (long)px * b->pool * columns + column;
                vec best = *(const vec *)at;
                ivec which = patch * GRID;
                for (int dy = 0; dy < b->pool; dy++)
                    for (int dx = 0; dx < b->pool; dx++) {
                        vec other = *(const vec *)(at + ((long)dy * reach + dx) * columns);
                        ivec larger = other > best;
                        best = larger ? other : best;
                        int code = (patch + dy * line + dx * b->channels) * GRID + dy * b->pool + dx;
                        which = larger ? (ivec)code : which;
                    }
                best += *(const loose *)(bias + column);
                *(loose *)(output + place + column) = best > 0 ? best : (vec)0;
                *(iloose *)(choice + place + column) = which;
            }
        }
    }
}

// Bring the image into floats, moved by (down, right) pixels; zeros come in at the edge.
static void bring(const Network *net, const unsigned char *image, float *to, int down, int right) {
    int line = net->width * net->channels, shift = right * net->channels;
    int first = shift < 0 ? -shift : 0, last = shift > 0 ? line - shift : line;
    for (int y = 0; y < net->height; y++, to += line) {
        int from = y + down;
        for (int x = 0; x < line; x++) to[x] = 0;
        if (from < 0 || from >= net->height) continue;
        for (int x = first; x < last; x++) to[x] = image[from * line + shift + x] * (1 / 255.0f);
    }
}

INLINE uvec mixed(uvec x) {  // the finaliser of MurmurHash3
    x ^= x >> 16; x *= 0x85ebca6bu; x ^= x >> 13; x *= 0xc2b2ae35u; x ^= x >> 16;
    return x;
}

static void drop(const Network *net, Dense *layer, int images, unsigned key) {
    uvec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    unsigned limit = net->dropout * (1 << 24);
    vec scale = 1 / (1 - net->dropout);
    for (int i = 0; i < images; i++)
        for (int j = 0; j < padded(layer->units); j += LANES) {
            uvec noise = mixed(mixed((unsigned)(i * padded(layer->units) + j) + lane + key) + key);
            loose *at = (loose *)(layer->output + i * layer->stride + j);
            *at = (noise >> 8) >= limit ? (vec)*at * scale : (vec)0;
        }
}

// Logits of some images, into the output of the last layer. `moves`: (images, 2) pixels down and right, or null.
// `key` seeds dropout; 0 leaves it out.
void forward(const Network *net, const void *images, const int *which, int count, const signed char *moves,
             unsigned key) {
    long size = (long)net->height * net->width * net->channels;
    for (int i = 0; i < count; i++) {
        float *input = net->input + i * net->input_stride;
        if (net->floats)
            for (long k = 0; k < size; k++) input[k] = ((const float *)images)[which[i] * size + k];
        else
            bring(net, (const unsigned char *)images + which[i] * size, input, moves ? moves[2 * i] : 0,
                  moves ? moves[2 * i + 1] : 0);
        for (int n = 0; n < net->blocks; n++) {
            const Block *b = &net->block[n];
            convolve(net, b, input, b->output + i * b->stride, b->choice + i * b->stride);
            input = b->output + i * b->stride;
        }
    }
    const Block *top = net->blocks ? &net->block[net->blocks - 1] : 0;
    float *input = top ? top->output : net->input;
    long stride = top ? top->stride : net->input_stride;
    for (int n = 0; n < net->layers; n++) {
        Dense *layer = (Dense *)&net->layer[n];
        int columns = padded(layer->units), last = n == net->layers - 1;
        product(count, layer->inputs, columns, input, stride, 1, (Matrix){net->weights + layer->weights, 0, 1},
                (Matrix){layer->output, layer->stride, 0});
        for (int i = 0; i < count; i++)
            for (int j = 0; j < columns; j += LANES) {
                loose *at = (loose *)(layer->output + i * layer->stride + j);
                vec value = *at + *(const loose *)(net->weights + layer->bias + j);
                *at = last || value > 0 ? value : (vec)0;
            }
        if (n == net->layers - 2 && key && net->dropout > 0) drop(net, layer, count, key);
        input = layer->output;
        stride = layer->stride;
    }
}

// ---- backward

INLINE float exponential(float x) {  // of x ≤ 0, to float precision (Cephes)
    if (!(x > -87)) return x != x ? x : 0;
    int power = (int)(x * 1.44269504f - 0.5f);
    float r = x - power * 0.693359375f + power * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f; p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
    union { int bits; float value; } two = {(power + 127) << 23};
    return (p * r * r + r + 1) * two.value;
}

// Gradient of the sum of cross-entropies over `share`, with respect to the logits; the probability of each label.
static void loss(const Network *net, const int *labels, int count, float share, float *likely) {
    const Dense *layer = &net->layer[net->layers - 1];
    for (int i = 0; i < count; i++) {
        const float *logit = layer->output + i * layer->stride;
        float *gradient = layer->gradient + i * layer->stride, top = logit[0], sum = 0;
        for (int j = 1; j < layer->units; j++) top = logit[j] > top ? logit[j] : top;
        for (int j = 0; j < layer->units; j++) sum += gradient[j] = exponential(logit[j] - top);
        likely[i] = gradient[labels[i]] / sum;
        for (int j = 0; j < layer->units; j++) gradient[j] *= share / sum;
        gradient[labels[i]] -= share;
    }
}

static void dense_back(const Network *net, const Dense *layer, const float *input, long stride, int images,
                       float *input_gradient, long gradient_stride, float scale) {
    int columns = padded(layer->units), lanes = padded(images);
    float *bias = net->gradient + layer->bias;
    for (int j = 0; j < columns; j += LANES) {
        vec sum = 0;
        for (int i = 0; i < images; i++) sum += *(const loose *)(layer->gradient + i * layer->stride + j);
        *(loose *)(bias + j) = sum;
    }
    product(layer->inputs, images, columns, input, 1, stride, (Matrix){layer->gradient, layer->stride, 0},
            (Matrix){net->gradient + layer->weights, 0, 1});
    if (!input_gradient) return;
    // Turned, so that the weights are read along their rows: (inputs, images) = weights · (units, images).
    for (int j = 0; j < columns; j++)
        for (int i = images; i < lanes; i++) net->turned[j * lanes + i] = 0;
    turn(images, columns, layer->gradient, layer->stride, net->turned, lanes);
    const float *weights = net->weights + layer->weights;
    int whole = columns / PANEL, rest = columns % PANEL;
    for (int column = 0; column < lanes; column += PANEL) {
        int vectors = least(PANEL, lanes - column) / LANES;
        rows(layer->inputs, vectors, whole, (long)layer->inputs * PANEL, PANEL, weights, PANEL, 1,
             net->turned + column, lanes, net->across + column, lanes, 0);
        if (rest)
            rows(layer->inputs, vectors, 1, 0, rest, weights + (long)whole * layer->inputs * PANEL, rest, 1,
                 net->turned + (long)whole * PANEL * lanes + column, lanes, net->across + column, lanes, whole > 0);
    }
    for (int i = 0; i < images; i++) {  // through ReLU, and through dropout, whose zeros look the same
        const float *value = input + i * stride;
        float *to = input_gradient + i * gradient_stride;
        for (int j = 0; j < layer->inputs; j++) to[j] = value[j] > 0 ? scale * net->across[(long)j * lanes + i] : 0;
    }
}

// R lines of Q vectors: sum of patches, each times a gradient. `line`: numbers from one line of the input to the next.
INLINE void gather(const int R, const int Q, int count, const int *place, const float *gradient, const float *input,
                   long line, float *sum, int row) {
    vec part[R][Q];
    for (int r = 0; r < R; r++)
        for (int q = 0; q < Q; q++) part[r][q] = *(const loose *)(sum + r * row + q * LANES);
    for (int n = 0; n < count; n++)
        for (int r = 0; r < R; r++)
            for (int q = 0; q < Q; q++)
                part[r][q] += gradient[n] * (vec) * (const loose *)(input + place[n] + r * line + q * LANES);
    for (int r = 0; r < R; r++)
        for (int q = 0; q < Q; q++) *(loose *)(sum + r * row + q * LANES) = part[r][q];
}

// All lines of a kernel at once where registers suffice, else line by line.
static void gather_lines(int lines, int vectors, int count, const int *place, const float *gradient,
                         const float *input, long line, float *sum, long row) {
#define CASE(R, Q) case R * 8 + Q: gather(R, Q, count, place, gradient, input, line, sum, row); return;
    switch (vectors < 8 && lines * vectors <= GATHERED ? lines * 8 + vectors : 0) {
        CASE(5, 1) CASE(3, 1) CASE(3, 2) CASE(3, 3) CASE(3, 4) CASE(3, 5) CASE(3, 6) CASE(5, 2) CASE(5, 3) CASE(5, 4)
        CASE(2, 1) CASE(4, 1) CASE(6, 1) CASE(7, 1)
    }
#undef CASE
    for (int r = 0; r < lines; r++)
        for (int q = 0; q < vectors; q += 4) {
            const float *from = input + r * line + q * LANES;
            float *to = sum + r * row + q * LANES;
            switch (least(4, vectors - q)) {
                case 1: gather(1, 1, count, place, gradient, from, 0, to, 0); break;
                case 2: gather(1, 2, count, place, gradient, from, 0, to, 0); break;
                case 3: gather(1, 3, count, place, gradient, from, 0, to, 0); break;
                case 4: gather(1, 4, count, place, gradient, from, 0, to, 0); break;
            }
        }
}

// One image's part in a convolution's gradients. `gradient`: of the block's output, where that is positive.
static void convolve_back(const Network *net, Block *b, const float *input, const int *choice, const float *gradient,
                          int through) {
    int area = b->pooled_height * b->pooled_width, line = b->width * b->channels, vectors = b->row / LANES;
    int place[FILTERS];
    float part[FILTERS];
    for (int o = 0; o < b->filters; o++) {
        float bias = 0;
        for (int start = 0; start < area; start += FILTERS) {
            int count = 0;
            for (int p = start; p < least(area, start + FILTERS); p++) {
                float value = gradient[p * b->filters + o];
                place[count] = (unsigned)choice[p * b->filters + o] / GRID;
                part[count] = value;
                bias += value;
                count += value != 0;
            }
            gather_lines(b->kernel, vectors, count, place, part, input, line,
                         b->gradient + (long)o * b->kernel * b->row, b->row);
        }
        net->gradient[b->bias + o] += bias;
    }
    if (!through) return;
    for (int k = 0; k < b->height * line; k++) b->input_gradient[k] = 0;
    int grid = b->pool * b->pool, counts[GRID], most = FILTERS / grid;
    for (int p = 0; p < area; p++, choice += b->filters, gradient += b->filters)
        for (int start = 0; start < b->filters; start += most) {
            for (int k = 0; k < grid; k++) counts[k] = k * most;
            for (int o = start; o < least(b->filters, start + most); o++) {  // by the position that was largest
                int *count = &counts[(unsigned)choice[o] % GRID];
                place[*count] = o * b->kernel * b->row;
                part[*count] = gradient[o];
                *count += gradient[o] != 0;
            }
            int patch = p / b->pooled_width * b->pool * line + p % b->pooled_width * b->pool * b->channels;
            for (int k = 0; k < grid; k++)
                if (counts[k] > k * most)
                    gather_lines(b->kernel, vectors, counts[k] - k * most, place + k * most, part + k * most, b->turned,
                                 b->row, b->input_gradient + patch + k / b->pool * line + k % b->pool * b->channels,
                                 line);
        }
}

// Gradients of the sum of cross-entropies over `share`, after `forward` of the same images.
void backward(Network *net, const int *labels, int count, float share, int dropped, float *likely) {
    loss(net, labels, count, share, likely);
    Block *top = net->blocks ? &net->block[net->blocks - 1] : 0;
    for (int n = net->layers - 1; n > 0; n--) {
        Dense *below = &net->layer[n - 1];
        float scale = dropped && n == net->layers - 1 ? 1 / (1 - net->dropout) : 1;
        dense_back(net, &net->layer[n], below->output, below->stride, count, below->gradient, below->stride, scale);
    }
    if (!top) {
        dense_back(net, &net->layer[0], net->input, net->input_stride, count, 0, 0, 1);
        return;
    }
    dense_back(net, &net->layer[0], top->output, top->stride, count, net->top_gradient, top->stride, 1);
    for (int n = 0; n < net->blocks; n++) {
        Block *b = &net->block[n];
        long size = (long)b->filters * b->kernel * b->row, depth = (long)b->kernel * b->kernel * b->channels;
        for (long k = 0; k < size; k++) b->gradient[k] = 0;
        for (int o = 0; o < padded(b->filters); o++) net->gradient[b->bias + o] = 0;
        for (int column = 0; n && column < b->filters; column++) {
            int panel = column / PANEL * PANEL, width = least(PANEL, padded(b->filters) - panel);
            const float *from = net->weights + b->weights + depth * panel + column - panel;
            for (int k = 0; k < depth; k++) {
                int r = k / (b->kernel * b->channels), j = k % (b->kernel * b->channels);
                b->turned[((long)column * b->kernel + r) * b->row + j] = from[(long)k * width];
            }
        }
    }
    for (int i = 0; i < count; i++) {
        const float *gradient = net->top_gradient + i * top->stride;
        for (int n = net->blocks - 1; n >= 0; n--) {
            Block *b = &net->block[n], *below = n ? b - 1 : 0;
            float *input = n ? below->output + i * below->stride : net->input + i * net->input_stride;
            convolve_back(net, b, input, b->choice + i * b->stride, gradient, n > 0);
            if (!n) break;
            long size = (long)b->height * b->width * b->channels;
            for (long k = 0; k < size; k++) b->input_gradient[k] = input[k] > 0 ? b->input_gradient[k] : 0;
            gradient = b->input_gradient;
        }
    }
    for (int n = 0; n < net->blocks; n++) {
        Block *b = &net->block[n];
        int length = b->kernel * b->channels;
        for (int column = 0; column < b->filters; column++) {
            int panel = column / PANEL * PANEL, width = least(PANEL, padded(b->filters) - panel);
            float *to = net->gradient + b->weights + (long)b->kernel * length * panel + column - panel;
            const float *from = b->gradient + (long)column * b->kernel * b->row;
            for (int r = 0; r < b->kernel; r++)
                for (int j = 0; j < length; j++) to[(long)(r * length + j) * width] = from[r * b->row + j];
        }
    }
}

// Moments that fade away become too small to be normal numbers, with which some processors take a hundred times as
// long: they count as zero, as in TensorFlow. Returns what was set before.
#if defined(__x86_64__)
static unsigned flush(unsigned set) {
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(set);
    return before;
}
enum { FLUSHED = 0x9fc0 };  // all exceptions masked, denormals are zeros, flush to zero
#else
static unsigned flush(unsigned set) { return set; }
enum { FLUSHED = 0 };
#endif

// One update (Kingma & Ba 2015, the efficient order at the end of section 2): `rate` has the bias corrections in it.
void adam(Network *net, float rate, float beta1, float beta2) {
    unsigned before = flush(FLUSHED);
    for (long k = 0; k < net->parameters; k += LANES) {
        loose *first = (loose *)(net->first + k), *second = (loose *)(net->second + k);
        vec gradient = *(const loose *)(net->gradient + k);
        vec mean = *first + (1 - beta1) * (gradient - *first);
        vec square = *second + (1 - beta2) * (gradient * gradient - *second);
        *first = mean;
        *second = square;
        *(loose *)(net->weights + k) -= rate * mean / (__builtin_elementwise_sqrt(square) + 1e-7f);
    }
    flush(before);
}

// One batch's gradients of the mean cross-entropy, or of a part of it by `share`. `which`: rows of the batch; `chosen`:
// room for their labels; `likely`: the probability that each label had.
void differentiate(Network *net, const void *images, const int *labels, const int *which, int count,
                   const signed char *moves, unsigned key, float share, int *chosen, float *likely) {
    unsigned before = flush(FLUSHED);
    for (int i = 0; i < count; i++) chosen[i] = labels[which[i]];
    forward(net, images, which, count, moves, key);
    backward(net, chosen, count, share, net->dropout > 0, likely);
    flush(before);
}

// Gradient steps. `batches`: (steps, batch) rows; `moves`: (steps, batch, 2) or null; `keys`: of dropout, by step.
void train(Network *net, const void *images, const int *labels, const int *batches, int steps, int batch,
           const signed char *moves, const unsigned *keys, const float *rates, float beta1, float beta2,
           int *chosen, float *likely) {
    for (long step = 0; step < steps; step++) {
        differentiate(net, images, labels, batches + step * batch, batch, moves ? moves + 2 * step * batch : 0,
                      keys[step], 1.0f / batch, chosen, likely + step * batch);
        adam(net, rates[step], beta1, beta2);
    }
}
