/* sketch_fixture.h - a sketch of the CPU, the same for the device, and blocks of keys for both. */
#ifndef RADAR_SIMT_SKETCH_FIXTURE_H
#define RADAR_SIMT_SKETCH_FIXTURE_H

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/simt/fixture.h"

extern "C" {
#include "kernels/backend.h"
}
#include "kernels/cuda/sketch.h"

struct sketch {
    static constexpr uint64_t SEED = 11;
    radar_scorer *cpu = nullptr;
    radar_cuda_sketch x{};
    float norm[256], step[256] = {0}, middle[16];

    sketch(int D, int bits) {
        radar_scorer_options opt{};
        opt.D = D;
        opt.seed = SEED;
        opt.sketch_bits = bits;
        opt.isa = "plain";
        radar_error err{};
        if (radar_scorer_open(&cpu, "sketch", &opt, &err) != RADAR_OK) simt::die("%s", err.text);
        const int pad = bits == 1 ? 32 : 16;
        x.D = D;
        x.Dp = (D + pad - 1) / pad * pad;
        x.Dq = (D + 31) / 32 * 32;
        x.bits = bits;
        x.words = bits == 2 ? x.Dq / 32 : x.Dp * bits / 32;
        x.low_words = bits == 2 ? x.Dp / 32 : 0;
        x.block_bytes = cpu->block_bytes;
        x.query_bytes = cpu->query_bytes;
        x.scale = (float)(1 / sqrt(D));
        x.norm = norm;
        x.step = step;
        x.middle = middle;
        fill_tables();
    }
    ~sketch() { radar_scorer_close(cpu); }
    sketch(const sketch &) = delete;

  private:
    void fill_tables() {
        for (int begin = 0, size = 256; begin < x.D; size /= 2) {
            if (size > x.D - begin) continue;
            for (int d = begin; d < begin + size; d++)
                norm[d] =
                    (float)((radar_random(SEED, RADAR_STREAM_SIGNS, (uint64_t)d) & 1 ? -1 : 1) /
                            sqrt(size));
            begin += size;
        }
        for (int c = 1; c < 256; c++) step[c] = (float)exp2((c - 255) / 16.0);
        for (int i = 0; i < 16; i++) middle[i] = (float)exp2((i + 0.5) / 16);
    }
};

/* Keys of a block, one after the other: kind 0: normal around a mean of its own;  1: zeros;  2: all alike;  3: as 0, a hundred
 * times that;  4: as 0, a hundred thousandth;  5: one infinite, 6: one NaN;  7: one key alone is not 0. */
enum { KEY_KINDS = 8 };
static inline float key_of(int kind, uint64_t block, int D, int token, int d) {
    const float mean = 2 * draw(100 + block, (uint64_t)d);
    const float key = mean + draw(200 + block, (uint64_t)(token * D + d));
    if (kind == 1) return 0;
    if (kind == 2) return mean;
    if (kind == 3) return 100 * key;
    if (kind == 4) return 1e-5f * key;
    if (kind == 5 && token == 17 && d == 3) return INFINITY;
    if (kind == 6 && token == 40 && d == 5) return NAN;
    if (kind == 7) return token == 63 ? key : 0;
    return key;
}

#endif
