/* GGUF files made to break a parser: each rule of the format and each class of published flaw has its file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

typedef gguf (*maker)(void);

/* ---- what is done to a good file ---- */

static gguf good(void) {
    tiny t = tiny_llama();
    return tiny_gguf(&t);
}
static gguf wrong_magic(void) {
    gguf g = good();
    memcpy(g.magic, "GGML", 4);
    return g;
}
static gguf with_version(uint32_t v) {
    gguf g = good();
    g.version = v;
    return g;
}
static gguf version_0(void) { return with_version(0); }
static gguf version_1(void) { return with_version(1); }
static gguf version_4(void) { return with_version(4); }
static gguf big_endian(void) { return with_version(0x03000000); }

static gguf with_counts(uint64_t tensors, uint64_t keys) {
    gguf g = good();
    g.n_tensors = tensors;
    g.n_keys = keys;
    return g;
}
static gguf keys_2_63(void) { return with_counts(1, (uint64_t)1 << 63); }
static gguf keys_all_ones(void) { return with_counts(1, UINT64_MAX); }
static gguf keys_at_limit(void) { return with_counts(1, (uint64_t)1 << 20); }
static gguf keys_over_limit(void) { return with_counts(1, ((uint64_t)1 << 20) + 1); }
static gguf tensors_all_ones(void) { return with_counts(UINT64_MAX, 14); }
static gguf tensors_wrap(void) {
    return with_counts(UINT64_MAX / 96 + 2, 14);
} /* times an entry's size: 96 */
static gguf tensors_over_limit(void) { return with_counts(((uint64_t)1 << 20) + 1, 14); }
static gguf tensors_more_than_bytes(void) { return with_counts(9000, 14); }
static gguf one_key_too_many(void) {
    gguf g = good();
    g.n_keys++;
    return g;
}
static gguf one_key_too_few(void) {
    gguf g = good();
    g.n_keys--;
    return g;
}
static gguf one_tensor_too_many(void) {
    gguf g = good();
    g.n_tensors++;
    return g;
}
static gguf no_tensors(void) {
    gguf g = good();
    g.n_tensors = 0;
    return g;
}

/* ---- metadata ---- */

static gguf key_length(uint64_t n) {
    gguf g = good();
    put_u64(&g.keys, n);
    put_zeros(&g.keys, 16);
    g.n_keys++;
    return g;
}
static gguf key_of_all_ones(void) { return key_length(UINT64_MAX); }
static gguf key_of_2_32(void) { return key_length((uint64_t)1 << 32); } /* int32 would be 0 */
static gguf key_past_the_end(void) { return key_length(60u << 20); }
static gguf key_over_64_mib(void) { return key_length((64u << 20) + 1); }
static gguf key_empty(void) { return key_length(0); }
static gguf key_with_control(void) {
    gguf g = good();
    key_u32(&g, "terminal\033[2J", 1);
    return g;
}
static gguf key_twice(void) {
    gguf g = good();
    key_u32(&g, "twice", 1);
    key_u32(&g, "twice", 2);
    return g;
}
static gguf key_type(uint32_t type) {
    gguf g = good();
    put_u64(gguf_key(&g, "strange", type), 0);
    return g;
}
static gguf type_13(void) { return key_type(13); }
static gguf type_all_ones(void) { return key_type(UINT32_MAX); }
static gguf bool_of_2(void) {
    gguf g = good();
    put_u8(gguf_key(&g, "truth", BOOL), 2);
    return g;
}
static gguf string_length(uint64_t n) {
    gguf g = good();
    put_u64(gguf_key(&g, "text", STRING), n);
    return g;
}
static gguf string_all_ones(void) { return string_length(UINT64_MAX); } /* + 1 for a NUL is 0 */
static gguf string_past_the_end(void) { return string_length(1u << 20); }
static gguf string_over_64_mib(void) { return string_length((64u << 20) + 1); }
static gguf array_of(uint32_t item, uint64_t n) {
    gguf g = good();
    key_array(&g, "list", item, n);
    return g;
}
static gguf array_all_ones(void) { return array_of(U8, UINT64_MAX); }
static gguf array_wraps(void) { return array_of(U64, ((uint64_t)1 << 61) + 1); } /* times 8: 8 */
static gguf array_wraps_u32(void) { return array_of(U32, (uint64_t)1 << 62); }
static gguf array_past_the_end(void) { return array_of(U8, 1u << 20); }
static gguf array_of_arrays(void) { return array_of(ARRAY, 1); }
static gguf array_of_type_77(void) { return array_of(77, 1); }
static gguf strings_wrap(void) { return array_of(STRING, ((uint64_t)1 << 61) + 1); }
static gguf strings_over_limit(void) { return array_of(STRING, ((uint64_t)1 << 24) + 1); }
static gguf strings_past_the_end(void) { return array_of(STRING, 9000); }
static gguf string_of_array_too_long(void) {
    gguf g = good();
    put_u64(key_array(&g, "list", STRING, 1), UINT64_MAX - 7);
    return g;
}

static gguf aligned(uint32_t n) {
    gguf g = good();
    key_u32(&g, "general.alignment", n);
    return g;
}
static gguf alignment_0(void) { return aligned(0); }
static gguf alignment_4(void) { return aligned(4); }
static gguf alignment_24(void) { return aligned(24); }
static gguf alignment_131072(void) { return aligned(131072); }
static gguf alignment_2_31(void) { return aligned((uint32_t)1 << 31); }
static gguf alignment_wraps(void) {
    gguf g = good();
    put_u64(gguf_key(&g, "general.alignment", U64), (uint64_t)1 << 63);
    return g;
}
static gguf alignment_text(void) {
    gguf g = good();
    key_text(&g, "general.alignment", "32");
    return g;
}

/* ---- tensors: one more at the end of the list ---- */

static gguf entry(const char *name, uint32_t n, uint64_t a, uint64_t b, uint32_t type,
                  uint64_t offset_more) {
    gguf g = good();
    uint64_t dim[8] = {a, b, 1, 1, 1, 1, 1, 1};
    put_zeros(&g.data, (32 - g.data.n % 32) % 32);
    gguf_entry(&g, name, n, dim, type, g.data.n + offset_more);
    put_zeros(&g.data, 64);
    return g;
}
static gguf dims_0(void) { return entry("x", 0, 1, 1, T_F32, 0); }
static gguf dims_5(void) { return entry("x", 5, 1, 1, T_F32, 0); }
static gguf dims_all_ones(void) {
    gguf g = good();
    put_text(&g.list, "x");
    put_u32(&g.list, UINT32_MAX);
    put_zeros(&g.list, 64);
    g.n_tensors++;
    return g;
}
static gguf dim_zero(void) { return entry("x", 2, 4, 0, T_F32, 0); }
static gguf dim_negative(void) { return entry("x", 2, 4, (uint64_t)-1, T_F32, 0); }
static gguf dim_2_63(void) { return entry("x", 1, (uint64_t)1 << 63, 1, T_F32, 0); }
static gguf dims_wrap(void) {
    return entry("x", 2, (uint64_t)1 << 32, (uint64_t)1 << 32, T_F32, 0);
}
static gguf dims_wrap_by_type(void) { return entry("x", 1, ((uint64_t)1 << 62) + 4, 1, T_F32, 0); }
static gguf dims_wrap_by_block(void) { return entry("x", 2, 32, ((uint64_t)1 << 60), T_Q8_0, 0); }
static gguf part_of_a_block(void) { return entry("x", 1, 33, 1, T_Q8_0, 0); }
static gguf part_of_a_q5_block(void) { return entry("x", 1, 48, 1, T_Q5_1, 0); }
static gguf part_of_a_k_block(void) { return entry("x", 2, 576, 2, T_Q4_K, 0); }
static gguf k_rows_past_the_end(void) { return entry("x", 2, 256, 3, T_Q6_K, 0); }
static gguf removed_type(void) { return entry("x", 1, 32, 1, 4, 0); }
static gguf unknown_type(void) { return entry("x", 1, 32, 1, 1000, 0); }
static gguf type_negative(void) { return entry("x", 1, 32, 1, (uint32_t)-1, 0); }
static gguf alignment_64_of_32(void) {
    gguf g = entry("x", 1, 4, 1, T_F32, 32); /* the data before it is a multiple of 64 */
    key_u32(&g, "general.alignment", 64);
    return g;
}
static gguf offset_odd(void) { return entry("x", 1, 4, 1, T_F32, 4); }
static gguf offset_past_the_end(void) { return entry("x", 1, 4, 1, T_F32, 1u << 20); }
static gguf offset_wraps(void) { return entry("x", 1, 16, 1, T_F32, (uint64_t)0 - 32 - 32); }
static gguf offset_all_ones(void) {
    gguf g = good();
    uint64_t dim[1] = {4};
    gguf_entry(&g, "x", 1, dim, T_F32, UINT64_MAX - 31);
    return g;
}
static gguf bytes_past_the_end(void) { return entry("x", 1, 17, 1, T_F32, 0); }
static gguf overlap(void) {
    gguf g = good();
    uint64_t dim[1] = {4};
    gguf_entry(&g, "x", 1, dim, T_F32, 0);
    return g;
}
static gguf name_twice(void) { return entry("output_norm.weight", 1, 4, 1, T_F32, 0); }
static gguf name_empty(void) { return entry("", 1, 4, 1, T_F32, 0); }
static gguf name_with_newline(void) { return entry("a\nb", 1, 4, 1, T_F32, 0); }
static gguf name_length(uint64_t n) {
    gguf g = good();
    put_u64(&g.list, n);
    put_zeros(&g.list, 40);
    g.n_tensors++;
    return g;
}
static gguf name_of_all_ones(void) { return name_length(UINT64_MAX); }
static gguf name_of_2_32(void) { return name_length((uint64_t)1 << 32); }
static gguf name_past_the_end(void) { return name_length(1u << 20); }

/* ---- splits ---- */

static gguf split(uint32_t no, uint32_t count) {
    gguf g = good();
    key_u32(&g, "split.no", no);
    key_u32(&g, "split.count", count);
    return g;
}
static gguf split_with_other_name(void) { return split(0, 2); }
static gguf split_no_beyond_count(void) { return split(3, 2); }
static gguf split_all_ones(void) { return split(0, UINT32_MAX); }

static const struct {
    const char *name;
    maker make;
    const char *says; /* part of the message */
} refused[] = {
#define ROW(make, says) \
    { #make, make, says }
    ROW(wrong_magic, "no GGUF file"),
    ROW(version_0, "version 0"),
    ROW(version_1, "version 1"),
    ROW(version_4, "version 4"),
    ROW(big_endian, "big-endian"),
    ROW(keys_2_63, "9223372036854775808 keys"),
    ROW(keys_all_ones, "18446744073709551615 keys"),
    ROW(keys_at_limit, "truncated: keys"),
    ROW(keys_over_limit, "1048577 keys"),
    ROW(tensors_all_ones, "18446744073709551615 tensors"),
    ROW(tensors_wrap, "tensors, at most"),
    ROW(tensors_over_limit, "1048577 tensors"),
    ROW(tensors_more_than_bytes, "truncated: tensors"),
    ROW(one_key_too_many, "before byte"),
    ROW(one_key_too_few, "before byte"),
    ROW(one_tensor_too_many, "memory: "),
    ROW(no_tensors, "has no tensors"),
    ROW(key_of_all_ones, "18446744073709551615 bytes"),
    ROW(key_of_2_32, "4294967296 bytes"),
    ROW(key_past_the_end, "truncated: a key"),
    ROW(key_over_64_mib, "67108865 bytes"),
    ROW(key_empty, "a key before byte"),
    ROW(key_with_control, "control characters"),
    ROW(key_twice, "key twice is there twice"),
    ROW(type_13, "unknown type 13"),
    ROW(type_all_ones, "unknown type 4294967295"),
    ROW(bool_of_2, "bool of value 2"),
    ROW(string_all_ones, "18446744073709551615 bytes"),
    ROW(string_past_the_end, "truncated: a string value"),
    ROW(string_over_64_mib, "67108865 bytes"),
    ROW(array_all_ones, "truncated: an array"),
    ROW(array_wraps, "truncated: an array"),
    ROW(array_wraps_u32, "truncated: an array"),
    ROW(array_past_the_end, "truncated: an array"),
    ROW(array_of_arrays, "array of arrays"),
    ROW(array_of_type_77, "unknown type 77"),
    ROW(strings_wrap, "strings, at most"),
    ROW(strings_over_limit, "16777217 strings"),
    ROW(strings_past_the_end, "truncated: an array of strings"),
    ROW(string_of_array_too_long, "18446744073709551608 bytes"),
    ROW(alignment_0, "general.alignment is 0"),
    ROW(alignment_4, "general.alignment is 4"),
    ROW(alignment_24, "general.alignment is 24"),
    ROW(alignment_131072, "general.alignment is 131072"),
    ROW(alignment_2_31, "general.alignment is 2147483648"),
    ROW(alignment_wraps, "general.alignment is"),
    ROW(alignment_text, "general.alignment is"),
    ROW(alignment_64_of_32, "no multiple of 64"),
    ROW(dims_0, "0 dimensions"),
    ROW(dims_5, "5 dimensions"),
    ROW(dims_all_ones, "truncated: a tensor's shape"),
    ROW(dim_zero, "dimension 1 is 0"),
    ROW(dim_negative, "dimension 1 is 18446744073709551615"),
    ROW(dim_2_63, "dimension 0 is 9223372036854775808"),
    ROW(dims_wrap, "more bytes than a size holds"),
    ROW(dims_wrap_by_type, "more bytes than a size holds"),
    ROW(dims_wrap_by_block, "more bytes than a size holds"),
    ROW(part_of_a_block, "no multiple of the 32"),
    ROW(part_of_a_q5_block, "no multiple of the 32"),
    ROW(part_of_a_k_block, "rows of 576 elements are no multiple of the 256 in a block of Q4_K"),
    ROW(k_rows_past_the_end, "truncated: tensor x needs 630 bytes"),
    ROW(removed_type, "unknown type 4"),
    ROW(unknown_type, "unknown type 1000"),
    ROW(type_negative, "unknown type 4294967295"),
    ROW(offset_odd, "no multiple of 32"),
    ROW(offset_past_the_end, "truncated: tensor x"),
    ROW(offset_wraps, "overlaps"),
    ROW(offset_all_ones, "truncated: tensor x"),
    ROW(bytes_past_the_end, "truncated: tensor x needs 68 bytes"),
    ROW(overlap, "overlaps"),
    ROW(name_twice, "output_norm.weight is there twice"),
    ROW(name_empty, "a tensor's name before byte"),
    ROW(name_with_newline, "control characters"),
    ROW(name_of_all_ones, "18446744073709551615 bytes"),
    ROW(name_of_2_32, "4294967296 bytes"),
    ROW(name_past_the_end, "truncated: a tensor's name"),
    ROW(split_with_other_name, "its name must end in -00001-of-00002.gguf"),
    ROW(split_no_beyond_count, "split.no 3 of split.count 2"),
    ROW(split_all_ones, "split.count 4294967295"),
#undef ROW
};

static void every_broken_file_is_refused_with_its_reason(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        radar_error err;
        gguf g = refused[i].make();
        blob b = gguf_bytes(&g, NULL);
        radar_status st = open_bytes(b.data, b.n, NULL, &err, NULL);
        if (st != RADAR_ERR_DATA || !strstr(err.text, refused[i].says)) {
            print_error("%s: status %d, \"%s\"\n", refused[i].name, st, err.text);
            wrong++;
        }
        drop(&b);
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(radar_alloc_live(), 0);
}

static void the_good_file_opens_as_version_2_and_3(void **state) {
    (void)state;
    for (uint32_t v = 2; v <= 3; v++) {
        radar_error err, model;
        gguf g = with_version(v);
        blob b = gguf_bytes(&g, NULL);
        assert_int_equal(open_bytes(b.data, b.n, NULL, &err, &model), RADAR_OK);
        assert_int_equal(model.status, RADAR_OK);
        drop(&b);
    }
}

static void every_truncation_is_refused_and_says_so(void **state) {
    (void)state;
    gguf g = good();
    blob b = gguf_bytes(&g, NULL);
    size_t last = b.n - 1;
    for (size_t n = 0; n <= last; n++) {
        radar_error err;
        assert_int_equal(open_bytes(b.data, n, NULL, &err, NULL), RADAR_ERR_DATA);
        if (!strstr(err.text, "truncated")) fail_msg("%zu of %zu bytes: %s", n, b.n, err.text);
        if (n > 4096) n += 97; /* the data: not every byte */
    }
    drop(&b);
    assert_int_equal(radar_alloc_live(), 0);
}

static void no_changed_header_byte_crashes(void **state) {
    (void)state;
    static const unsigned char change[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
    size_t header, opened = 0, refusals = 0;
    gguf g = good();
    key_array(&g, "tokenizer.ggml.tokens", STRING, 2);
    put_text(&g.keys, "a");
    put_text(&g.keys, "b");
    blob b = gguf_bytes(&g, &header);
    for (size_t i = 0; i < header; i++)
        for (size_t j = 0; j < sizeof change; j++) {
            radar_error err;
            b.data[i] ^= change[j];
            radar_status st = open_bytes(b.data, b.n, NULL, &err, NULL);
            b.data[i] ^= change[j];
            if (st == RADAR_OK)
                opened++;
            else
                refusals++;
            assert_true(st == RADAR_OK || st == RADAR_ERR_DATA);
            assert_int_equal(st != RADAR_OK, err.text[0] != 0);
        }
    drop(&b);
    print_message("%zu bytes: %zu changes opened, %zu refused\n", header, opened, refusals);
    assert_true(refusals > header);
    assert_int_equal(radar_alloc_live(), 0);
}

static void messages_never_carry_control_characters(void **state) {
    (void)state;
    size_t header;
    gguf g = good();
    blob b = gguf_bytes(&g, &header);
    for (size_t i = 8; i < header; i++) {
        radar_error err, model = {0};
        unsigned char kept = b.data[i];
        b.data[i] = 0x1b;
        open_bytes(b.data, b.n, NULL, &err, &model);
        b.data[i] = kept;
        for (const char *p = err.text; *p; p++) assert_true(*p >= 0x20 && *p != 0x7f);
        for (const char *p = model.text; *p; p++) assert_true(*p >= 0x20 && *p != 0x7f);
    }
    drop(&b);
}

/* Every allocation fails once; nothing leaks and the status says so. */
static int allocations_left;
static void *(*real_alloc)(size_t bytes);
static void *failing_alloc(size_t bytes) {
    return allocations_left-- > 0 ? real_alloc(bytes) : NULL;
}

static void every_failed_allocation_is_out_of_memory(void **state) {
    (void)state;
    gguf g = good();
    key_array(&g, "tokenizer.ggml.tokens", STRING, 1);
    put_text(&g.keys, "a");
    blob b = gguf_bytes(&g, NULL);
    real_alloc = radar_sys_table.alloc;
    radar_sys_table.alloc = failing_alloc;
    int n = 0;
    for (bool done = false; !done; n++) {
        radar_error err = {0};
        radar_tensorfile *tf = NULL;
        radar_model *m = NULL;
        allocations_left = n;
        radar_status st = radar_tensorfile_open_memory(&tf, b.data, b.n, NULL, &err);
        if (st == RADAR_OK) st = radar_model_from_file(&m, tf, &err);
        done = st == RADAR_OK;
        if (!done) assert_int_equal(st, RADAR_ERR_MEMORY);
        radar_model_close(m);
        assert_int_equal(radar_alloc_live(), 0);
    }
    radar_sys_table.alloc = real_alloc;
    drop(&b);
    assert_true(n > 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_file_is_refused_with_its_reason),
        cmocka_unit_test(the_good_file_opens_as_version_2_and_3),
        cmocka_unit_test(every_truncation_is_refused_and_says_so),
        cmocka_unit_test(no_changed_header_byte_crashes),
        cmocka_unit_test(messages_never_carry_control_characters),
        cmocka_unit_test(every_failed_allocation_is_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
