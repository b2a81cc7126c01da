/* Cuts the jobs of a matmul into tiles, rounds x where a path asks for it, and deals the tiles to the threads. */
#include "kernels/matmul.h"

#include <assert.h>
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/tile.h"

/* Up to here the weights are streamed: tiles in order, the same share for every thread. */
#define FEW_ROWS 8
/* From here on floats are multiplied by panels, which take longer to rearrange and less to multiply. */
#define PANEL_ROWS_BF16 48
#define PANEL_ROWS_F32 24

int radar_matmul_column_block(radar_dtype type) {
    int block = radar_dtype_block(type);
    return block > RADAR_QUANT ? block : RADAR_QUANT;
}

/* ---- scratch: {q, dx, dx_sum, neg_sum, neg_half} of x8, x for floats (x16, or by lane), then one panel per thread ---- */

typedef struct layout {
    size_t q, dx, x_floats, panels, panel_bytes, total;
    size_t rows_blocks; /* elements of dx, dx_sum, neg_sum, neg_half each */
} layout;

/* A line more than a row, so that rows of 4096 do not all fall into the same cache set. */
static size_t row_bytes_of(int64_t cols) { return ((size_t)cols + 63) / 64 * 64 + 64; }

static bool take(size_t *end, size_t a, size_t b, size_t *begin) {
    size_t bytes;
    *begin = *end;
    return radar_mul(a, b, &bytes) && radar_add(bytes, 63, &bytes) &&
           radar_add(*end, bytes / 64 * 64, end);
}

/* Bytes of 12 rows of x for the float paths: f32 by lane, or, where that is more, rows of x16. */
static size_t block_bytes(int64_t cols) {
    size_t by_lane = radar_panel_x_at(NULL, cols).block * sizeof(uint32_t),
           by_row = RADAR_PANEL_X * row_bytes_of(cols) * sizeof(uint16_t);
    return by_lane > by_row ? by_lane : by_row;
}

static void layout_of(layout *l, const radar_backend_options *opt, radar_isa isa) {
    bool fast = opt->precision == RADAR_PRECISION_FAST;
    size_t row = row_bytes_of(opt->max_cols), rows = (size_t)opt->max_rows, end = 0;
    size_t blocks = isa.avx512 ? (size_t)radar_ceil_div(opt->max_rows, RADAR_PANEL_X) : 0;
    *l = (layout){.rows_blocks = row / RADAR_QUANT * rows,
                  .panel_bytes = RADAR_TILE_SCRATCH(opt->max_cols)};
    if (isa.avx512 && l->panel_bytes < RADAR_PANEL_SCRATCH(opt->max_cols))
        l->panel_bytes = RADAR_PANEL_SCRATCH(opt->max_cols);
    bool fits = take(&end, fast ? rows : 0, row, &l->q) &&
                take(&end, fast ? l->rows_blocks : 0, 4 * sizeof(float), &l->dx) &&
                take(&end, blocks, block_bytes(opt->max_cols), &l->x_floats) &&
                take(&end, (size_t)opt->n_threads, l->panel_bytes, &l->panels);
    l->total = fits ? end : SIZE_MAX; /* which no allocation gives */
}

size_t radar_cpu_matmul_scratch(const radar_backend_options *opt) {
    layout l;
    bool ok;
    layout_of(&l, opt, radar_cpu_isa(opt->isa, &ok));
    return l.total;
}

/* ---- one call ---- */

typedef enum path { PATH_INT8, PATH_BF16, PATH_F32 } path;

typedef struct range {
    int64_t begin, end;
} range;

typedef struct call {
    const radar_cpu *cpu;
    const radar_matmul_job *job;
    int n_jobs, M;
    const float *x;
    size_t x_stride;
    radar_x8 x8;
    radar_x16 x16;
    range r8, r16, r32; /* columns of x that the paths read; x8, x16 and the panels begin there */
    radar_panel_x panel16, panel32; /* q NULL: the path does not multiply by panels */
    uint8_t *panels;
    size_t panel_bytes;
} call;

static path path_of(const radar_cpu *cpu, radar_dtype type) {
    if (cpu->opt.precision != RADAR_PRECISION_FAST) return PATH_F32;
    if (radar_quantised(type)) return PATH_INT8;
    return type == RADAR_BF16 && cpu->isa.bf16 ? PATH_BF16 : PATH_F32;
}

/* Columns of x that the jobs of one path read. */
static range range_of(const call *c, path which) {
    range r = {INT64_MAX, 0};
    for (int i = 0; i < c->n_jobs; i++) {
        const radar_matmul_job *job = c->job + i;
        if (path_of(c->cpu, job->w->type) != which || job->col_end <= job->col_begin) continue;
        r.begin = radar_min64(r.begin, job->x_begin);
        r.end = radar_max64(r.end, job->x_begin + job->col_end - job->col_begin);
    }
    return r.begin < r.end ? r : (range){0, 0};
}

/* `rows` of x or more, and every job of the path begins and ends with a whole chunk (`columns`) of the panels. */
static bool by_panels(const call *c, path which, range r, int columns, int rows) {
    if (c->M < rows || !c->cpu->isa.avx512 || r.end - r.begin > c->cpu->opt.max_cols) return false;
    for (int i = 0; i < c->n_jobs; i++) {
        const radar_matmul_job *job = c->job + i;
        if (path_of(c->cpu, job->w->type) != which || job->col_end <= job->col_begin) continue;
        if ((job->col_end - job->col_begin) % columns || (job->x_begin - r.begin) % columns)
            return false;
    }
    return r.begin < r.end;
}

/* One of the two: bf16 and f32 jobs in one call are rare, and then the latter do without panels. */
static void prepare_floats(call *c, uint8_t *x_floats) {
    c->x16 = (radar_x16){(uint16_t *)x_floats, row_bytes_of(c->r16.end - c->r16.begin)};
    if (by_panels(c, PATH_BF16, c->r16, 32, PANEL_ROWS_BF16))
        c->panel16 = radar_panel_x_at(x_floats, (c->r16.end - c->r16.begin) / 2);
    else if (!c->r16.end && by_panels(c, PATH_F32, c->r32, 16, PANEL_ROWS_F32))
        c->panel32 = radar_panel_x_at(x_floats, c->r32.end - c->r32.begin);
}

static void prepare(call *c) {
    layout l;
    layout_of(&l, &c->cpu->opt, c->cpu->isa);
    uint8_t *base = c->cpu->scratch;
    c->r8 = range_of(c, PATH_INT8);
    c->r16 = range_of(c, PATH_BF16);
    c->r32 = range_of(c, PATH_F32);
    assert(c->M <= c->cpu->opt.max_rows);
    assert(c->r8.begin % RADAR_QUANT == 0 && c->r8.end % RADAR_QUANT == 0);
    assert(c->r8.end - c->r8.begin <= c->cpu->opt.max_cols &&
           c->r16.end - c->r16.begin <= c->cpu->opt.max_cols);
    size_t row = row_bytes_of(c->r8.end - c->r8.begin);
    c->x8 = (radar_x8){.q = (int8_t *)(base + l.q),
                       .dx = (float *)(base + l.dx),
                       .q_stride = row,
                       .b_stride = row / RADAR_QUANT};
    c->x8.dx_sum = c->x8.dx + l.rows_blocks;
    c->x8.neg_sum = (int32_t *)(c->x8.dx_sum + l.rows_blocks);
    c->x8.neg_half = c->x8.neg_sum + l.rows_blocks;
    c->panels = base + l.panels;
    c->panel_bytes = l.panel_bytes;
    prepare_floats(c, base + l.x_floats);
}

static void round_row(const call *c, int m) {
    const float *x = c->x + (size_t)m * c->x_stride;
    if (c->r8.end)
        radar_round_int8(c->cpu->isa, &c->x8, m, x + c->r8.begin, c->r8.end - c->r8.begin);
    if (c->r16.end && !c->panel16.q)
        radar_round_bf16(&c->x16, m, x + c->r16.begin, c->r16.end - c->r16.begin);
}

/* 12 rows from 12 b on. */
static void arrange_rows(const call *c, int b) {
    int m = b * RADAR_PANEL_X, n = (int)radar_min64(c->M - m, RADAR_PANEL_X);
    const float *x = c->x + (size_t)m * c->x_stride;
    if (c->panel16.q)
        radar_panel_x_bf16(&c->panel16, b, x + c->r16.begin, c->x_stride, n,
                           c->r16.end - c->r16.begin);
    if (c->panel32.q)
        radar_panel_x_f32(&c->panel32, b, x + c->r32.begin, c->x_stride, n,
                          c->r32.end - c->r32.begin);
}

/* Where a job's tile lies in what was packed; NULL: not all of it was, or no tile begins there. */
static const uint8_t *packed_tile(const radar_matmul_job *job, int64_t row) {
    const struct radar_packed *p = job->w->packed;
    if (!p || row < p->part.row_begin || job->row_end > p->part.row_end ||
        job->col_begin < p->part.col_begin || job->col_end > p->part.col_end ||
        (row - p->part.row_begin) % RADAR_TILE_ROWS)
        return NULL;
    return p->tile + (size_t)((row - p->part.row_begin) / RADAR_TILE_ROWS) * p->tile_bytes +
           radar_packed_bytes(job->w->type, job->col_begin - p->part.col_begin);
}

/* NULL: the job is not multiplied by panels. */
static const radar_panel_x *panel_of(const call *c, const radar_matmul_job *job) {
    path which = path_of(c->cpu, job->w->type);
    const radar_panel_x *p = which == PATH_BF16  ? &c->panel16
                             : which == PATH_F32 ? &c->panel32
                                                 : NULL;
    return p && p->q ? p : NULL;
}

static int tile_rows(const call *c, const radar_matmul_job *job) {
    return panel_of(c, job) ? RADAR_PANEL_ROWS : RADAR_TILE_ROWS;
}

static void run_floats(const call *c, const radar_matmul_job *job, const radar_tile *t,
                       void *scratch) {
    const radar_panel_x *panel = panel_of(c, job);
    bool bf16 = path_of(c->cpu, t->type) == PATH_BF16;
    int64_t at = t->cols > 0 ? job->x_begin - (bf16 ? c->r16 : c->r32).begin : 0;
    if (panel) {
        radar_panel_x x = *panel;
        x.q += at / (bf16 ? 32 : 16) * RADAR_PANEL_QUAD * RADAR_PANEL_X;
        if (bf16)
            radar_panel_bf16(t, &x, scratch);
        else
            radar_panel_f32(c->cpu->isa, t, &x, scratch);
    } else if (bf16) {
        radar_x16 x16 = {c->x16.q + at, c->x16.stride};
        radar_tile_bf16(t, &x16);
    } else {
        radar_tile_f32(c->cpu->isa, t, c->x + job->x_begin, c->x_stride, scratch);
    }
}

static void run_tile(const call *c, const radar_matmul_job *job, int64_t index) {
    const radar_matrix *w = job->w;
    int rows = tile_rows(c, job);
    int64_t row = job->row_begin + index * rows, left = job->row_end - row;
    size_t skip =
        (size_t)(job->col_begin / radar_dtype_block(w->type)) * radar_dtype_block_bytes(w->type);
    radar_tile t = {
        .type = w->type,
        .rows = (int)radar_min64(left, rows),
        .cols = job->col_end - job->col_begin,
        .w = (const uint8_t *)w->data + (size_t)row * w->row_bytes + skip,
        .stride = w->row_bytes,
        .packed = packed_tile(job, row),
        .below = radar_max64(left - rows, 0),
        .bias = job->bias ? job->bias + row : NULL,
        .out = job->out + (row - job->row_begin),
        .out_stride = job->out_stride,
        .M = c->M,
    };
    void *scratch = c->panels + (size_t)omp_get_thread_num() * c->panel_bytes;
    if (path_of(c->cpu, w->type) == PATH_INT8) {
        size_t at = t.cols > 0 ? (size_t)(job->x_begin - c->r8.begin) : 0, b = at / RADAR_QUANT;
        radar_x8 x8 = c->x8;
        x8.q += at, x8.dx += b, x8.dx_sum += b, x8.neg_sum += b, x8.neg_half += b;
        radar_tile_int8(c->cpu->isa, &t, &x8, scratch);
    } else {
        run_floats(c, job, &t, scratch);
    }
}

/* ---- dealing: with few rows of x, neighbouring jobs over the same rows (column slices) are walked tile by tile, as the
 * weights lie in memory; with many rows job by job, so that a slice's part of x stays in the cache ---- */

typedef struct place {
    int job, together; /* first job of a group over the same rows, and how many there are */
    int64_t tiles;     /* of one job */
    int64_t first;     /* the group's first unit */
} place;

static int64_t tiles_of(const call *c, const radar_matmul_job *job) {
    return radar_ceil_div(radar_max64(job->row_end - job->row_begin, 0), tile_rows(c, job));
}

static place group_at(const call *c, int job, int64_t first) {
    const radar_matmul_job *a = c->job + job;
    int together = 1;
    while (c->M <= FEW_ROWS && job + together < c->n_jobs) {
        const radar_matmul_job *b = a + together;
        if (b->w != a->w || b->row_begin != a->row_begin || b->row_end != a->row_end) break;
        together++;
    }
    return (place){job, together, tiles_of(c, a), first};
}

static void run_units(const call *c, int64_t begin, int64_t end) {
    place p = group_at(c, 0, 0);
    for (int64_t unit = begin; unit < end; unit++) {
        while (unit >= p.first + p.tiles * p.together)
            p = group_at(c, p.job + p.together, p.first + p.tiles * p.together);
        int64_t i = unit - p.first;
        run_tile(c, c->job + p.job + i % p.together, i / p.together);
    }
}

void radar_cpu_matmul(radar_backend *be, const radar_matmul_job *job, int n_jobs, const float *x,
                      size_t x_stride, int M) {
    call c = {.cpu = radar_cpu_of(be),
              .job = job,
              .n_jobs = n_jobs,
              .M = M,
              .x = x,
              .x_stride = x_stride};
    if (M <= 0) return;
    prepare(&c);
    int64_t units = 0;
    for (int i = 0; i < n_jobs; i++) units += tiles_of(&c, job + i);
    if (units == 0) return;
    int n_threads = c.cpu->opt.n_threads;
    if (M <= FEW_ROWS) {
        for (int m = 0; m < M; m++) round_row(&c, m);
#pragma omp parallel for num_threads(n_threads) schedule(static) if (units > 1)
        for (int t = 0; t < n_threads; t++)
            run_units(&c, units * t / n_threads, units * (t + 1) / n_threads);
        return;
    }
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for schedule(static)
        for (int m = 0; m < M; m++) round_row(&c, m);
#pragma omp for schedule(static)
        for (int m = 0; m < M; m += RADAR_PANEL_X) arrange_rows(&c, m / RADAR_PANEL_X);
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < units; unit++) run_units(&c, unit, unit + 1);
    }
}
