/* safetensors files made to break a parser: one for each rule of the format. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

#define CONFIG TINY_CONFIG "}"
/* One tensor of two bytes with the given dtype, shape and offsets. */
#define ONE(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define PAIR(name, offsets) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" offsets "}"

static const struct {
    const char *name, *header;
    size_t data;
    const char *says;
} refused[] = {
    {"no tensors", "{}", 0, "has 0 tensors"},
    {"only metadata", "{\"__metadata__\":{}}", 0, "has 0 tensors"},
    {"metadata is a list", "{\"__metadata__\":[],\"a\":1}", 0, "__metadata__"},
    {"an array", "[1,2,3]", 0, "no JSON object"},
    {"a space first", " {}", 0, "no JSON object"},
    {"no JSON", "{nonsense}", 0, "bad JSON"},
    {"text after the object", "{}x", 0, "bad JSON"},
    {"cut short", "{\"a\":", 0, "bad JSON"},
    {"a key twice", "{" PAIR("a", "[0,2]") "," PAIR("a", "[2,4]") "}", 4, "bad JSON"},
    {"a field twice",
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     "bad JSON"},
    {"bad UTF-8", "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     "bad JSON"},
    {"a surrogate", "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     "bad JSON"},
    {"a NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     2, "bad JSON"},
    {"an escape in a name",
     "{\"a\\u001b[2J\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     "control characters"},
    {"an empty name", "{" PAIR("", "[0,2]") "}", 2, "needs a name"},
    {"a number for a tensor", "{\"a\":1}", 0, "needs a name"},
    {"a fourth field",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"file\":\"/etc/passwd\"}}", 2,
     "just dtype"},
    {"no dtype", "{\"a\":{\"type\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "no dtype"},
    {"an unknown dtype", ONE("\"F31\"", "[2]", "[0,2]"), 2, "unknown dtype"},
    {"a dtype that is a number", ONE("8", "[2]", "[0,2]"), 2, "no dtype"},
    {"a shape that is a number", ONE("\"U8\"", "2", "[0,2]"), 2, "its shape"},
    {"five dimensions", ONE("\"U8\"", "[2,1,1,1,1]", "[0,2]"), 2, "its shape"},
    {"a negative dimension", ONE("\"U8\"", "[-2]", "[0,2]"), 2, "its shape"},
    {"a broken dimension", ONE("\"U8\"", "[2.0]", "[0,2]"), 2, "its shape"},
    {"a dimension in quotes", ONE("\"U8\"", "[\"2\"]", "[0,2]"), 2, "its shape"},
    {"a dimension beyond 64 bits", ONE("\"U8\"", "[18446744073709551616]", "[0,2]"), 2, "bad JSON"},
    {"a shape that wraps to 0", ONE("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0,
     "more elements"},
    {"bytes that wrap to 0", ONE("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, "its size"},
    {"bits that wrap", ONE("\"F32\"", "[576460752303423489]", "[0,4]"), 4, "its size"},
    {"half a byte", ONE("\"F4\"", "[3]", "[0,2]"), 2, "its size"},
    {"too few bytes", ONE("\"U8\"", "[3]", "[0,2]"), 2, "needs 3 bytes"},
    {"too many bytes", ONE("\"U8\"", "[1]", "[0,2]"), 2, "needs 1 bytes"},
    {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"offsets\":[0,2]}}", 2, "data_offsets"},
    {"three offsets", ONE("\"U8\"", "[2]", "[0,2,4]"), 2, "data_offsets"},
    {"descending offsets", ONE("\"U8\"", "[2]", "[2,0]"), 2, "data_offsets"},
    {"a negative offset", ONE("\"U8\"", "[2]", "[-1,1]"), 2, "data_offsets"},
    {"real offsets", ONE("\"U8\"", "[2]", "[0.0,2.0]"), 2, "data_offsets"},
    {"offsets beyond the file", ONE("\"U8\"", "[100]", "[0,100]"), 2, "truncated"},
    {"offsets near 2^63", ONE("\"U8\"", "[2]", "[9223372036854775805,9223372036854775807]"), 2,
     "hole"},
    {"a hole at the start", ONE("\"U8\"", "[2]", "[1,3]"), 3, "hole"},
    {"a hole between", "{" PAIR("a", "[0,2]") "," PAIR("b", "[3,5]") "}", 5, "hole"},
    {"an overlap", "{" PAIR("a", "[0,2]") "," PAIR("b", "[1,3]") "}", 3, "overlaps"},
    {"the same place", "{" PAIR("a", "[0,2]") "," PAIR("b", "[0,2]") "}", 2, "overlaps"},
    {"bytes after the last", ONE("\"U8\"", "[2]", "[0,2]"), 3, "1 bytes after the last tensor"},
};

static radar_status open_header(const char *header, size_t n, size_t data, radar_error *err) {
    blob b = st_raw(header, n, data);
    radar_status st = open_bytes(b.data, b.n, CONFIG, err, NULL);
    drop(&b);
    return st;
}

static void every_broken_file_is_refused_with_its_reason(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        radar_error err;
        radar_status st =
            open_header(refused[i].header, strlen(refused[i].header), refused[i].data, &err);
        if (st != RADAR_ERR_DATA || !strstr(err.text, refused[i].says)) {
            print_error("%s: status %d, \"%s\"\n", refused[i].name, st, err.text);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(radar_alloc_live(), 0);
}

static void order_of_the_header_is_free_and_spaces_may_follow(void **state) {
    (void)state;
    radar_error err;
    const char *header = "{" PAIR("b", "[2,4]") "," PAIR("a", "[0,2]") "}    ";
    assert_int_equal(open_header(header, strlen(header), 4, &err), RADAR_OK);
    header =
        "{" PAIR("a", "[0,2]") ",\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],"
                               "\"data_offsets\":[0,0]},\"scalar\":{\"dtype\":\"F16\",\"shape\":[],"
                               "\"data_offsets\":[2,4]}}";
    assert_int_equal(open_header(header, strlen(header), 4, &err), RADAR_OK);
}

static void lying_header_lengths_are_refused(void **state) {
    (void)state;
    static const uint64_t length[] = {0,          1,
                                      17,         18,
                                      100000000,  100000001,
                                      UINT32_MAX, (uint64_t)1 << 32,
                                      UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        radar_error err;
        blob b = {0};
        put_u64(&b, length[i]);
        put(&b, "{}              ", 16);
        assert_int_equal(open_bytes(b.data, b.n, CONFIG, &err, NULL), RADAR_ERR_DATA);
        drop(&b);
    }
}

static void nesting_deeper_than_64_is_refused(void **state) {
    (void)state;
    for (int depth = 60; depth < 100000; depth = depth < 70 ? depth + 1 : depth * 10) {
        radar_error err;
        blob b = {0};
        put(&b, "{\"a\":", 5);
        for (int i = 1; i < depth; i++) put(&b, "[", 1);
        for (int i = 1; i < depth; i++) put(&b, "]", 1);
        put(&b, "}", 1);
        assert_int_equal(open_header((char *)b.data, b.n, 0, &err), RADAR_ERR_DATA);
        assert_int_equal(strstr(err.text, "deeper than 64") != NULL, depth > 64);
        drop(&b);
    }
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    blob b = tiny_safetensors();
    for (size_t n = 0; n < b.n; n += n < 4096 ? 1 : 97) {
        radar_error err;
        assert_int_equal(open_bytes(b.data, n, CONFIG, &err, NULL), RADAR_ERR_DATA);
        if (!strstr(err.text, "truncated")) fail_msg("%zu of %zu bytes: %s", n, b.n, err.text);
    }
    radar_error err, model;
    assert_int_equal(open_bytes(b.data, b.n, CONFIG, &err, &model), RADAR_OK);
    assert_int_equal(model.status, RADAR_OK);
    drop(&b);
    assert_int_equal(radar_alloc_live(), 0);
}

static void no_changed_header_byte_crashes(void **state) {
    (void)state;
    static const unsigned char change[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
    blob b = tiny_safetensors();
    uint64_t header;
    size_t opened = 0, refusals = 0;
    memcpy(&header, b.data, sizeof header);
    for (size_t i = 0; i < 8 + header; i++)
        for (size_t j = 0; j < sizeof change; j++) {
            radar_error err;
            b.data[i] ^= change[j];
            radar_status st = open_bytes(b.data, b.n, CONFIG, &err, NULL);
            b.data[i] ^= change[j];
            assert_true(st == RADAR_OK || st == RADAR_ERR_DATA);
            for (const char *p = err.text; *p; p++) assert_true(*p >= 0x20 && *p != 0x7f);
            if (st == RADAR_OK)
                opened++;
            else
                refusals++;
        }
    drop(&b);
    print_message("%d bytes: %zu changes opened, %zu refused\n", (int)header + 8, opened, refusals);
    assert_true(refusals > header);
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_file_is_refused_with_its_reason),
        cmocka_unit_test(order_of_the_header_is_free_and_spaces_may_follow),
        cmocka_unit_test(lying_header_lengths_are_refused),
        cmocka_unit_test(nesting_deeper_than_64_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_changed_header_byte_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
