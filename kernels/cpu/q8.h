/* q8.h - packed segments of the cache (kv.h): packing a block, and reading it back as f32. */
#ifndef RADAR_CPU_Q8_H
#define RADAR_CPU_Q8_H

#include "kernels/cpu/rotate.h"

/* [this rank] n a multiple of 8. */
void radar_widen_f16(radar_isa isa, float *out, const uint16_t *h, int n);

static inline const uint8_t *radar_q8_centre(const radar_kv_view *kv, int64_t segment) {
    return (const uint8_t *)kv->centre +
           (size_t)(segment / RADAR_BLOCK_SEGMENTS) * radar_kv_centre_bytes(kv->D);
}

/* [this rank] Packs block `block`, whose f16 copy lies in the tail. */
void radar_q8_pack(radar_isa isa, const radar_rotation *r, const radar_kv_view *kv, int32_t block);

/* [this rank] Keys [D, 16], or values [16, D], of a packed segment; 64-byte aligned. */
void radar_q8_keys(radar_isa isa, const radar_rotation *r, float *k, const radar_kv_view *kv,
                   int64_t segment);
void radar_q8_values(radar_isa isa, float *v, const radar_kv_view *kv, int64_t segment);

/* [this rank] The keys of any segment, in place or, where they are packed, as f32 in room [D, 16]: for whoever can wait. */
typedef struct radar_tile_keys {
    radar_dtype type;
    const void *k;
} radar_tile_keys;
static inline radar_tile_keys radar_keys_of(radar_isa isa, const radar_kv_view *kv, int64_t segment,
                                            float *room) {
    if (!radar_kv_packed(kv, segment)) {
        radar_place p = radar_place_of(kv, segment);
        return (radar_tile_keys){p.type, p.k};
    }
    radar_rotation r;
    radar_rotation_of_q8(&r, kv->D);
    radar_q8_keys(isa, &r, room, kv, segment);
    return (radar_tile_keys){RADAR_F32, room};
}

#endif
