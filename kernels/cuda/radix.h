/* radix.h - the `keep` largest of some keys, digit by digit: what a block does for it.
 *
 *   count the next 8 bits of all keys whose higher bits are those of the keep-th largest key -> its next 8 bits
 *
 * until as many keys are left as are wanted: four times where no two scores are equal, eight times at most.  Counts are sums of
 * integers, so the order in which threads come to add changes nothing.
 * Keys are the 64 bits of kernels/topk.h: high = order(score), low = ~segment; high = 0: no key.  A Keys lets warps walk over
 * chunks of them: each(chunk, f) calls f(high, low) for 32 keys at a time, together for all lanes of the warp, in their order;
 * low is a function, because most keys are decided without it. */
#ifndef RADAR_CUDA_RADIX_H
#define RADAR_CUDA_RADIX_H

#include "kernels/cuda/dev.h"

#define RADIX_DIGITS 256
#define RADIX_CHUNKS 64 /* the most that radix_emit() takes */

/* What is known of the least of the best: `digits` digits of it, the others zero. */
struct radix_state {
    uint64_t floor;
    int32_t digits;
    int32_t above; /* keys with larger digits */
    int32_t level; /* keys with these digits; none known: at most so many */
};

DEV radix_state radix_start(int most) { return {0, 0, 0, most}; }

/* Whether all keys from the floor on are wanted. */
DEV bool radix_done(const radix_state &s, int keep) {
    return s.digits == 8 || (int64_t)s.above + s.level <= keep;
}

/* [a warp] Sum over the lanes up to this one. */
DEV int radix_through(int own) {
    for (unsigned n = 1; n < 32; n *= 2) {
        const int before = dev_shuffle_up(own, n);
        if (dev_lane() >= n) own += before;
    }
    return own;
}

/* [a warp] Sum of the first n. */
DEV int radix_sum(const int *x, int n) {
    int sum = 0;
    for (int i = (int)dev_lane(); i < n; i += 32) sum += x[i];
    for (int m = 16; m; m /= 2) sum += dev_shuffle_xor(sum, m);
    return sum;
}

/* The digit that is to be counted, or -1: not of the level. */
template <class Low> DEV int radix_digit(const radix_state &s, uint32_t high, Low low) {
    const uint32_t floor_high = (uint32_t)(s.floor >> 32);
    if (high == 0) return -1;
    if (s.digits < 4) {
        if ((uint64_t)(high ^ floor_high) >> (32 - 8 * s.digits)) return -1;
        return (int)(high >> (24 - 8 * s.digits) & 255);
    }
    if (high != floor_high) return -1;
    const uint32_t segment = low();
    if ((uint64_t)(segment ^ (uint32_t)s.floor) >> (64 - 8 * s.digits)) return -1;
    return (int)(segment >> (56 - 8 * s.digits) & 255);
}

template <class Low> DEV bool radix_wins(uint64_t floor, uint32_t high, Low low) {
    const uint32_t floor_high = (uint32_t)(floor >> 32);
    if (high == 0 || high < floor_high) return false;
    return high > floor_high || (uint32_t)floor == 0 || low() >= (uint32_t)floor;
}

/* [a warp] The next digit, by count[256] of the level.  A lane has 8 of them, the largest first. */
DEV radix_state radix_choose(radix_state s, const uint32_t *count, int keep) {
    const int top = 255 - 8 * (int)dev_lane(), need = keep - s.above;
    int own = 0;
    for (int i = 0; i < 8; i++) own += (int)count[top - i];
    const int through = radix_through(own), all = dev_shuffle(through, 31);
    if (all <= need) { /* of the first digit alone: all keys together are not too many */
        s.level = all;
        return s;
    }
    int digit = top, above = through - own;
    const int lane = dev_first(dev_ballot(through >= need));
    while (digit > top - 7 && above + (int)count[digit] < need) above += (int)count[digit--];
    digit = dev_shuffle(digit, lane);
    s.floor |= (uint64_t)digit << (56 - 8 * s.digits);
    s.above += dev_shuffle(above, lane);
    s.level = (int)count[digit];
    s.digits++;
    return s;
}

/* [a warp] For the block, after a barrier. */
DEV void radix_leave(radix_state *shared, const radix_state &s) {
    if (dev_lane() == 0) *shared = s;
}

/* [a block] Adds to count[256] in shared memory. */
template <class Keys>
DEV void radix_count(const Keys &keys, const radix_state &s, uint32_t *count) {
    for (int chunk = (int)dev_warp(); chunk < keys.chunks(); chunk += (int)blockDim.x / 32)
        keys.each(chunk, [&](uint32_t high, auto low) {
            const int digit = radix_digit(s, high, low);
            if (digit >= 0) dev_atomic_add(&count[digit], 1u);
        });
}

/* [a block] From where on keys are the `keep` best.  Its first barrier is also for what the keys have in shared memory.
 * Two counts take turns: while one warp chooses, the others have nothing to do but to clear the one that comes next. */
template <class Keys> DEV uint64_t radix_floor(const Keys &keys, radix_state s, int keep) {
    SHARED(uint32_t, counts, 2 * RADIX_DIGITS);
    SHARED(radix_state, chosen, 1);
    for (unsigned i = threadIdx.x; i < RADIX_DIGITS; i += blockDim.x) counts[i] = 0;
    dev_block_sync();
    for (int turn = 0; !radix_done(s, keep); turn ^= 1) {
        uint32_t *const count = counts + turn * RADIX_DIGITS, *const next =
                                                                  counts +
                                                                  (turn ^ 1) * RADIX_DIGITS;
        radix_count(keys, s, count);
        dev_block_sync();
        for (unsigned i = threadIdx.x; i < RADIX_DIGITS; i += blockDim.x) next[i] = 0;
        if (dev_warp() == 0) radix_leave(chosen, radix_choose(s, count, keep));
        dev_block_sync();
        s = *chosen;
    }
    return s.floor;
}

/* [a block] Keys from the floor on, numbered in their order: put(number, high, low); returns how many. */
template <class Keys, class Put> DEV int radix_emit(const Keys &keys, uint64_t floor, Put put) {
    SHARED(int, found, RADIX_CHUNKS);
    for (int chunk = (int)dev_warp(); chunk < keys.chunks(); chunk += (int)blockDim.x / 32) {
        int n = 0;
        keys.each(chunk, [&](uint32_t high, auto low) {
            n += dev_popcount(dev_ballot(radix_wins(floor, high, low)));
        });
        if (dev_lane() == 0) found[chunk] = n;
    }
    dev_block_sync();
    for (int chunk = (int)dev_warp(); chunk < keys.chunks(); chunk += (int)blockDim.x / 32) {
        int at = radix_sum(found, chunk);
        keys.each(chunk, [&](uint32_t high, auto low) {
            const bool wins = radix_wins(floor, high, low);
            const unsigned votes = dev_ballot(wins);
            if (wins) put(at + dev_popcount(votes & ((1u << dev_lane()) - 1)), high, low());
            at += dev_popcount(votes);
        });
    }
    return radix_sum(found, keys.chunks());
}

/* [a warp] Stored keys, in their order. */
template <class F> DEV void radix_each(const uint64_t *key, int n, F f) {
    for (int base = 0; base < n; base += 128) {
        uint64_t x[4];
        for (int j = 0; j < 4; j++) {
            const int i = base + 32 * j + (int)dev_lane();
            x[j] = i < n ? key[i] : 0;
        }
        for (int j = 0; j < 4; j++)
            if (base + 32 * j < n) f((uint32_t)(x[j] >> 32), [&] { return (uint32_t)x[j]; });
    }
}

#endif
