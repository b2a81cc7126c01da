/* Stored numbers: names and sizes, every nibble and scale by the formula, and the demo model's tensors against golden data. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernels/cpu/dequantize.h"
#include "runtime/base.h"
#include "runtime/sys.h"

#define MODEL "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDEN "tests/golden/gguf-smollm2.json"
#define QUANTS "tests/golden/quants.json"

static void names_and_sizes_are_those_of_gguf(void **state) {
    (void)state;
    assert_string_equal(radar_dtype_name(RADAR_F32), "F32");
    assert_string_equal(radar_dtype_name(RADAR_Q4_1), "Q4_1");
    assert_int_equal(radar_dtype_block(RADAR_BF16), 1);
    assert_int_equal(radar_dtype_block(RADAR_Q8_0), 32);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q8_0), 34);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q4_0), 18);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q5_0), 22);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q5_1), 24);
    assert_int_equal(radar_dtype_block(RADAR_Q5_1), 32);
    assert_int_equal(radar_dtype_block(RADAR_Q4_K), 256);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q4_K), 144);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q5_K), 176);
    assert_int_equal(radar_dtype_block_bytes(RADAR_Q6_K), 210);
    assert_string_equal(radar_dtype_name(RADAR_Q6_K), "Q6_K");
}

/* With vectors (where the machine has them) and without, at an odd address; the same bits. */
static void dequantize_twice(float *out, radar_dtype type, const uint8_t *row, int64_t begin,
                             int64_t end) {
    static const char *const isa[] = {NULL, "avx2"};
    bool ok;
    size_t n = (size_t)(end - begin),
           bytes = radar_dtype_block_bytes(type) * (size_t)(end / radar_dtype_block(type));
    float *other = malloc((n + 1) * sizeof *other);
    uint8_t *odd = malloc(bytes + 1);
    assert_true(other && odd);
    memcpy(odd + 1, row, bytes);
    radar_dequantize(out, type, row, begin, end);
    for (int i = 0; i < 2; i++) {
        radar_cpu_dequantize(radar_cpu_isa(isa[i], &ok), other, type, odd + 1, begin, end);
        assert_memory_equal(out, other, n * sizeof *out);
    }
    free(odd);
    free(other);
}

static void put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }

static void every_byte_of_q8_0_is_signed(void **state) {
    (void)state;
    uint8_t row[8 * 34];
    float out[256];
    for (int b = 0; b < 8; b++) {
        put_u16(row + 34 * b, radar_f32_to_f16(-0.375f));
        for (int i = 0; i < 32; i++) row[34 * b + 2 + i] = (uint8_t)(32 * b + i);
    }
    dequantize_twice(out, RADAR_Q8_0, row, 0, 256);
    for (int i = 0; i < 256; i++) assert_true(out[i] == -0.375f * (float)(i < 128 ? i : i - 256));
}

/* The high nibble of byte i belongs to element i + 16. */
static void nibbles_lie_in_halves(void **state) {
    (void)state;
    uint8_t q4_0[36] = {0}, q4_1[40] = {0};
    float out[64];
    put_u16(q4_0 + 18, radar_f32_to_f16(0x1p-24f)); /* the smallest f16 */
    put_u16(q4_1 + 20, radar_f32_to_f16(2.0f));
    put_u16(q4_1 + 22, radar_f32_to_f16(-0.5f));
    for (int i = 0; i < 16; i++) q4_0[20 + i] = q4_1[24 + i] = (uint8_t)(i | (15 - i) << 4);
    dequantize_twice(out, RADAR_Q4_0, q4_0, 0, 64);
    for (int i = 0; i < 32; i++) assert_true(out[i] == 0.0f);
    for (int i = 0; i < 16; i++) {
        assert_true(out[32 + i] == (float)(i - 8) * 0x1p-24f);
        assert_true(out[48 + i] == (float)(7 - i) * 0x1p-24f);
    }
    dequantize_twice(out, RADAR_Q4_1, q4_1, 32, 64); /* from the second block on */
    for (int i = 0; i < 16; i++) {
        assert_true(out[i] == 2.0f * (float)i - 0.5f);
        assert_true(out[16 + i] == 2.0f * (float)(15 - i) - 0.5f);
    }
}

static void float_types_are_read_exactly_at_any_width(void **state) {
    (void)state;
    uint8_t row[4 * 37];
    float out[37];
    for (int n = 0; n <= 37; n++) {
        for (int i = 0; i < 37; i++) put_u16(row + 2 * i, radar_f32_to_f16(0.1f * (float)(i - 7)));
        dequantize_twice(out, RADAR_F16, row, 0, n);
        for (int i = 0; i < n; i++)
            assert_true(out[i] == radar_f16_to_f32(radar_f32_to_f16(0.1f * (float)(i - 7))));
        for (int i = 0; i < 37; i++)
            put_u16(row + 2 * i, radar_f32_to_bf16(0x1p-120f * (float)(i - 7)));
        dequantize_twice(out, RADAR_BF16, row, 0, n);
        for (int i = 0; i < n; i++) assert_true(out[i] == 0x1p-120f * (float)(i - 7));
        for (int i = 0; i < 37; i++) memcpy(row + 4 * i, &(float){0.1f * (float)i}, 4);
        dequantize_twice(out, RADAR_F32, row, n / 2, n);
        for (int i = n / 2; i < n; i++) assert_true(out[i - n / 2] == 0.1f * (float)i);
    }
}

/* ---- types the demo model does not have ---- */

static radar_dtype type_named(const char *name) {
    int type = 0;
    while (type < RADAR_DTYPE_COUNT && strcmp(radar_dtype_name((radar_dtype)type), name)) type++;
    assert_true(type < RADAR_DTYPE_COUNT);
    return (radar_dtype)type;
}

static size_t unhex(uint8_t *out, size_t room, const json_t *hex) {
    const char *s = json_string_value(hex);
    size_t n = json_string_length(hex) / 2;
    assert_true(s && n <= room);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static void blocks_of_every_type_match_golden_data_to_the_bit(void **state) {
    (void)state;
    static uint8_t stored[512], bits[2048];
    float out[512];
    const char *name;
    json_t *golden = json_load_file(QUANTS, 0, NULL), *types = json_object_get(golden, "types"), *t;
    assert_int_equal(json_object_size(types), 5);
    json_object_foreach(types, name, t) {
        radar_dtype type = type_named(name);
        size_t bytes = unhex(stored, sizeof stored, json_object_get(t, "bytes")),
               want = unhex(bits, sizeof bits, json_object_get(t, "f32"));
        int64_t block = radar_dtype_block(type);
        assert_int_equal(bytes, 2 * radar_dtype_block_bytes(type));
        assert_int_equal(want, 2 * (size_t)block * sizeof *out);
        dequantize_twice(out, type, stored, 0, 2 * block);
        assert_memory_equal(out, bits, want);
        dequantize_twice(out, type, stored, block, 2 * block);
        assert_memory_equal(out, bits + want / 2, want / 2);
    }
    json_decref(golden);
}

/* ---- the demo model ---- */

static const uint8_t *map_model(size_t *bytes) {
    struct stat st;
    const char *without = getenv("RADAR_NO_MODEL");
    int fd = open(MODEL, O_RDONLY);
    if (fd < 0 && without && strcmp(without, "1") == 0) skip();
    if (fd < 0) fail_msg("%s is missing: run make demo", MODEL);
    assert_int_equal(fstat(fd, &st), 0);
    *bytes = (size_t)st.st_size;
    void *map = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    assert_true(map != MAP_FAILED);
    return map;
}

static size_t offset_of(const json_t *golden, const char *name) {
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(golden, "tensors"), i, t) {
        if (strcmp(json_string_value(json_object_get(t, "name")), name) == 0)
            return (size_t)json_integer_value(json_object_get(t, "file_offset"));
    }
    fail_msg("%s: not among the tensors", name);
    return 0;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void check_tensor(const json_t *want, const uint8_t *data, size_t available) {
    radar_dtype type = type_named(json_string_value(json_object_get(want, "type")));
    int64_t n = 1;
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(want, "shape_row_major"), i, v) n *= json_integer_value(v);
    assert_true((size_t)(n / radar_dtype_block(type)) * radar_dtype_block_bytes(type) <= available);
    float *out = radar_alloc_array((size_t)n, sizeof *out);
    assert_non_null(out);
    dequantize_twice(out, type, data, 0, n);
    json_array_foreach(json_object_get(want, "first8"), i, v)
        assert_true(out[i] == (float)json_number_value(v));
    json_array_foreach(json_object_get(want, "last4"), i, v)
        assert_true(out[(size_t)n - 4 + i] == (float)json_number_value(v));
    long double sum = 0, squares = 0; /* 28 million terms one by one in double would miss 1e-10 */
    for (int64_t j = 0; j < n; j++) sum += out[j], squares += (double)out[j] * out[j];
    double right = number(want, "sum_squares_f64"), slack = 1e-13 * sqrt((double)n * right);
    assert_true(fabs((double)sum - number(want, "sum_f64")) <= slack);
    assert_true(fabs((double)squares - right) <= 1e-13 * right);
    radar_free(out);
}

static void tensors_of_the_demo_model_match_golden_data(void **state) {
    (void)state;
    size_t bytes, i;
    const uint8_t *model = map_model(&bytes);
    json_t *golden = json_load_file(GOLDEN, 0, NULL), *want;
    assert_non_null(golden);
    assert_true(json_array_size(json_object_get(golden, "dequantised")) > 20);
    json_array_foreach(json_object_get(golden, "dequantised"), i, want) {
        size_t offset = offset_of(golden, json_string_value(json_object_get(want, "name")));
        assert_true(offset < bytes);
        check_tensor(want, model + offset, bytes - offset);
    }
    json_decref(golden);
    munmap((void *)(uintptr_t)model, bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes_are_those_of_gguf),
        cmocka_unit_test(every_byte_of_q8_0_is_signed),
        cmocka_unit_test(nibbles_lie_in_halves),
        cmocka_unit_test(float_types_are_read_exactly_at_any_width),
        cmocka_unit_test(blocks_of_every_type_match_golden_data_to_the_bit),
        cmocka_unit_test(tensors_of_the_demo_model_match_golden_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
