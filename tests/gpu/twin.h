/* twin.h - the same operations on two backends: inputs that both get, outputs of both, and how far apart they are.
 * What a program of tests/gpu finds is a line on stdout: name, value, unit and verdict (ok, bad, missed or -), between tabs. */
#ifndef RADAR_GPU_TWIN_H
#define RADAR_GPU_TWIN_H

#include "kernels/backend.h"

enum { CPU, GPU, SIDES };

/* Memory of both backends. */
typedef struct twin {
    void *at[SIDES];
    size_t bytes;
} twin;

extern radar_backend *side[SIDES];

/* Each side with its own device pointers. */
#define ON_BOTH(s) for (int s = 0; s < SIDES; s++)

/* False, and a line says why: there is no GPU. */
bool open_sides(radar_precision precision, bool fp8_weights);
void close_sides(void);

twin twin_of(const void *host, size_t bytes); /* host NULL: zeros */
twin twin_random(size_t n, uint64_t stream);  /* n normal f32 */
void drop_twins(void);                        /* all of them, and what was read */
/* Waits; valid until drop_twins. */
const void *read_twin(twin t, int s);
void write_twin(twin t, int s, const void *host);

void fill_normal(float *x, size_t n, uint64_t stream);

/* Lines; each says whether it is fine.  The first `bytes` of both sides (0: all) are equal. */
void expect_same(const char *name, twin t, size_t bytes);
/* ||gpu - cpu|| / ||cpu|| of f32; infinities have to be where the other side has them. */
void expect_close(const char *name, twin t, double bound);
/* The share of bytes that differ. */
void expect_alike(const char *name, twin t, double bound);
void expect_true(const char *name, bool right);
int bad_lines(void);

/* The cases, a file each. */
void layer_cases(void);
void cache_cases(void);
void select_cases(void);
void attend_cases(void);
void matmul_cases(void);

#endif
