/* Model files that are as they should be, and paths that are no files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDEN "tests/golden/gguf-smollm2.json"
#define TINY "tests/golden/tiny/"

/* ---- a scratch folder for each test ---- */

typedef struct scratch {
    char folder[64];
    char path[256];
} scratch;

static scratch scratch_new(void) {
    scratch s = {.folder = "/tmp/radar-test-XXXXXX"};
    assert_non_null(mkdtemp(s.folder));
    return s;
}
static const char *in(scratch *s, const char *name) {
    snprintf(s->path, sizeof s->path, "%s/%s", s->folder, name);
    return s->path;
}
static void scratch_write(scratch *s, const char *name, const void *data, size_t n) {
    assert_true(write_file(in(s, name), data, n));
}
static void scratch_end(scratch *s) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", s->folder);
    assert_int_equal(system(command), 0);
}

/* Opens a path that must fail with this status and a message that has the words. */
static void expect(const char *path, radar_status want, const char *says) {
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    radar_status st = radar_tensorfile_open(&tf, path, &err);
    assert_null(tf);
    if (st != want || !strstr(err.text, says)) fail_msg("%s: %d \"%s\"", path, st, err.text);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- the demo model ---- */

static radar_tensorfile *open_demo(void) {
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    const char *allowed = getenv("RADAR_NO_MODEL");
    if (access(DEMO, F_OK) && allowed && !strcmp(allowed, "1")) skip();
    if (radar_tensorfile_open(&tf, DEMO, &err)) fail_msg("%s", err.text);
    return tf;
}

static json_t *golden(void) {
    json_error_t e;
    json_t *g = json_load_file(GOLDEN, 0, &e);
    if (!g) fail_msg("%s: %s", GOLDEN, e.text);
    return g;
}

static void the_demo_model_lists_the_golden_tensors(void **state) {
    (void)state;
    radar_tensorfile *tf = open_demo();
    json_t *g = golden(), *list = json_object_get(g, "tensors"), *want;
    size_t i;
    assert_true(radar_tensorfile_is_gguf(tf));
    assert_int_equal(radar_tensorfile_count(tf), json_array_size(list));
    assert_int_equal(radar_tensorfile_bytes(tf),
                     json_integer_value(json_object_get(g, "file_bytes")));
    json_array_foreach(list, i, want) {
        const radar_tensor *t = radar_tensorfile_at(tf, i);
        json_t *shape = json_object_get(want, "shape_row_major");
        assert_string_equal(t->name, json_string_value(json_object_get(want, "name")));
        assert_string_equal(t->type_name, json_string_value(json_object_get(want, "type")));
        assert_int_equal(t->n_dims, json_array_size(shape));
        for (int d = 0; d < t->n_dims; d++)
            assert_int_equal(t->dim[d], json_integer_value(json_array_get(shape, (size_t)d)));
        assert_int_equal(t->bytes, json_integer_value(json_object_get(want, "bytes")));
        assert_int_equal((const unsigned char *)t->data - tf->part[0].map.data,
                         json_integer_value(json_object_get(want, "file_offset")));
        assert_true(t->supported);
        assert_ptr_equal(radar_tensorfile_find(tf, t->name), t);
    }
    assert_null(radar_tensorfile_find(tf, "blk.0"));
    assert_null(radar_tensorfile_at(tf, radar_tensorfile_count(tf)));
    json_decref(g);
    radar_tensorfile_close(tf);
    assert_int_equal(radar_alloc_live(), 0);
}

static bool same_text(const char *text, size_t bytes, const json_t *want) {
    return bytes == json_string_length(want) && !memcmp(text, json_string_value(want), bytes);
}

static void check_strings(const radar_tensorfile *tf, const char *key, json_t *want) {
    json_t *first = json_object_get(want, "first"), *last = json_object_get(want, "last"), *v;
    int64_t n = json_integer_value(json_object_get(want, "count"));
    int64_t tail = n - (int64_t)json_array_size(last);
    const char *text;
    size_t bytes, i;
    assert_int_equal(radar_gguf_array(tf, key), n);
    json_array_foreach(first, i, v) {
        assert_true(radar_gguf_array_string(tf, key, (int64_t)i, &text, &bytes));
        assert_true(same_text(text, bytes, v));
    }
    json_array_foreach(last, i, v) {
        assert_true(radar_gguf_array_string(tf, key, tail + (int64_t)i, &text, &bytes));
        assert_true(same_text(text, bytes, v));
    }
    assert_false(radar_gguf_array_string(tf, key, n, &text, &bytes));
    assert_false(radar_gguf_array_string(tf, key, -1, &text, &bytes));
}

static void check_value(const radar_tensorfile *tf, json_t *want) {
    const char *key = json_string_value(json_object_get(want, "key"));
    const char *type = json_string_value(json_object_get(want, "type")), *text;
    json_t *value = json_object_get(want, "value");
    size_t bytes;
    int64_t n = -1;
    double x = 0;
    bool b = false;
    if (!strcmp(type, "STRING")) {
        assert_true(radar_gguf_string(tf, key, &text, &bytes));
        assert_true(same_text(text, bytes, value));
        assert_false(radar_gguf_int(tf, key, &n));
    } else if (!strcmp(type, "UINT32")) {
        assert_true(radar_gguf_int(tf, key, &n) && radar_gguf_real(tf, key, &x));
        assert_int_equal(n, json_integer_value(value));
        assert_true(x == (double)n);
        assert_int_equal(radar_gguf_array(tf, key), -1);
    } else if (!strcmp(type, "FLOAT32")) {
        assert_true(radar_gguf_real(tf, key, &x) && x == json_real_value(value));
        assert_false(radar_gguf_int(tf, key, &n));
    } else if (!strcmp(type, "BOOL")) {
        assert_true(radar_gguf_bool(tf, key, &b) && b == json_is_true(value));
    } else if (!strcmp(json_string_value(json_object_get(want, "of")), "STRING")) {
        check_strings(tf, key, want);
    } else {
        assert_int_equal(radar_gguf_array(tf, key),
                         json_integer_value(json_object_get(want, "count")));
    }
}

static void the_demo_model_has_the_golden_metadata(void **state) {
    (void)state;
    radar_tensorfile *tf = open_demo();
    json_t *g = golden(), *v;
    size_t i;
    int64_t type, control = 0, normal = 0;
    json_array_foreach(json_object_get(g, "metadata"), i, v) check_value(tf, v);
    assert_int_equal(tf->meta.n, json_array_size(json_object_get(g, "metadata")));
    for (int64_t j = 0; radar_gguf_array_int(tf, "tokenizer.ggml.token_type", j, &type); j++) {
        normal += type == 1;
        control += type == 3;
    }
    assert_int_equal(normal, 49135);
    assert_int_equal(control, 17);
    assert_int_equal(radar_gguf_array(tf, "no.such.key"), -1);
    assert_null(radar_tensorfile_config(tf));
    json_decref(g);
    radar_tensorfile_close(tf);
}

/* The first and last numbers of dequantised tensors: the data pointers are right. */
static void the_demo_model_has_the_golden_numbers(void **state) {
    (void)state;
    radar_tensorfile *tf = open_demo();
    json_t *g = golden(), *want, *v;
    size_t i, j;
    json_array_foreach(json_object_get(g, "dequantised"), i, want) {
        const radar_tensor *t =
            radar_tensorfile_find(tf, json_string_value(json_object_get(want, "name")));
        assert_non_null(t);
        int64_t cols = t->dim[t->n_dims - 1];
        size_t row =
            (size_t)cols / (size_t)radar_dtype_block(t->type) * radar_dtype_block_bytes(t->type);
        float *out = radar_alloc_array((size_t)cols, sizeof *out);
        radar_dequantize(out, t->type, t->data, 0, cols);
        json_array_foreach(json_object_get(want, "first8"), j, v)
            assert_true(fabs((double)out[j] - json_number_value(v)) <= 1e-6);
        radar_dequantize(out, t->type, (const char *)t->data + t->bytes - row, 0, cols);
        json_array_foreach(json_object_get(want, "last4"), j, v)
            assert_true(fabs((double)out[(size_t)cols - 4 + j] - json_number_value(v)) <= 1e-6);
        radar_free(out);
    }
    json_decref(g);
    radar_tensorfile_close(tf);
}

static void the_demo_model_opens_in_20_ms(void **state) {
    (void)state;
    double best = 1;
    for (int i = 0; i < 5; i++) {
        double start = radar_clock();
        radar_tensorfile *tf = open_demo();
        double took = radar_clock() - start;
        best = took < best ? took : best;
        radar_tensorfile_close(tf);
    }
    print_message("opened in %.2f ms\n", 1e3 * best);
    assert_true(best < 0.020);
}

/* ---- metadata conversions ---- */

static radar_tensorfile *open_gguf(gguf *g, blob *b) {
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    *b = gguf_bytes(g, NULL);
    if (radar_tensorfile_open_memory(&tf, b->data, b->n, NULL, &err)) fail_msg("%s", err.text);
    return tf;
}

static void integers_of_all_widths_convert_when_they_fit(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    put_u8(gguf_key(&g, "i8", I8), 0x80);
    put_u8(gguf_key(&g, "u8", U8), 0x80);
    put(gguf_key(&g, "i16", I16), "\x00\x80", 2);
    put(gguf_key(&g, "u16", U16), "\x00\x80", 2);
    put_u32(gguf_key(&g, "i32", I32), 0x80000000u);
    put_u32(gguf_key(&g, "u32", U32), 0x80000000u);
    put_u64(gguf_key(&g, "i64", I64), (uint64_t)1 << 63);
    put_u64(gguf_key(&g, "u64", U64), (uint64_t)1 << 63);
    put_f64(gguf_key(&g, "f64", F64), 0.1);
    key_bool(&g, "yes", true);
    blob b;
    radar_tensorfile *tf = open_gguf(&g, &b);
    static const struct {
        const char *key;
        int64_t want;
    } rows[] = {{"i8", -128},       {"u8", 128},         {"i16", -32768},   {"u16", 32768},
                {"i32", INT32_MIN}, {"u32", 2147483648}, {"i64", INT64_MIN}};
    int64_t n;
    double x;
    bool yes;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(radar_gguf_int(tf, rows[i].key, &n) && n == rows[i].want);
        assert_true(radar_gguf_real(tf, rows[i].key, &x) && x == (double)rows[i].want);
        assert_false(radar_gguf_bool(tf, rows[i].key, &yes));
    }
    assert_false(radar_gguf_int(tf, "u64", &n));
    assert_false(radar_gguf_int(tf, "yes", &n) || radar_gguf_real(tf, "yes", &x));
    assert_true(radar_gguf_bool(tf, "yes", &yes) && yes);
    assert_true(radar_gguf_real(tf, "f64", &x) && x == 0.1);
    radar_tensorfile_close(tf);
    drop(&b);
}

static void arrays_give_their_elements_and_nothing_beyond(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    blob *a = key_array(&g, "reals", F32, 2);
    put_f32(a, 0.5f);
    put_f32(a, -2.0f);
    put(key_array(&g, "shorts", I16, 2), "\xff\xff\x01\x00", 4);
    key_array(&g, "none", STRING, 0);
    put_text(key_array(&g, "one", STRING, 1), "");
    blob b;
    radar_tensorfile *tf = open_gguf(&g, &b);
    double x;
    int64_t n;
    const char *text;
    size_t bytes = 7;
    assert_true(radar_gguf_array_real(tf, "reals", 1, &x) && x == -2.0);
    assert_false(radar_gguf_array_real(tf, "reals", 2, &x));
    assert_false(radar_gguf_array_int(tf, "reals", 0, &n));
    assert_true(radar_gguf_array_int(tf, "shorts", 0, &n) && n == -1);
    assert_false(radar_gguf_array_int(tf, "shorts", -1, &n));
    assert_int_equal(radar_gguf_array(tf, "none"), 0);
    assert_false(radar_gguf_array_string(tf, "none", 0, &text, &bytes));
    assert_true(radar_gguf_array_string(tf, "one", 0, &text, &bytes) && bytes == 0);
    assert_false(radar_gguf_array_int(tf, "one", 0, &n));
    assert_int_equal(radar_gguf_array(tf, "general.name"), -1);
    radar_tensorfile_close(tf);
    drop(&b);
}

static void types_without_arithmetic_are_listed_by_name(void **state) {
    (void)state;
    gguf g = gguf_new();
    gguf_tensor(&g, "k", 2, 256, T_Q3_K);
    gguf_tensor(&g, "f", 0, 3, T_F32);
    blob b;
    radar_tensorfile *tf = open_gguf(&g, &b);
    const radar_tensor *k = radar_tensorfile_find(tf, "k"), *f = radar_tensorfile_find(tf, "f");
    assert_string_equal(k->type_name, "Q3_K");
    assert_false(k->supported);
    assert_int_equal(k->bytes, 220);
    assert_true(f->supported);
    assert_int_equal(f->n_dims, 1);
    radar_tensorfile_close(tf);
    drop(&b);
}

static void every_quantised_type_has_its_number_and_its_bytes(void **state) {
    static const struct {
        uint32_t number;
        radar_dtype type;
        size_t bytes; /* of two rows of 512 */
    } row[] = {{T_Q4_0, RADAR_Q4_0, 576}, {T_Q4_1, RADAR_Q4_1, 640},  {T_Q5_0, RADAR_Q5_0, 704},
               {T_Q5_1, RADAR_Q5_1, 768}, {T_Q8_0, RADAR_Q8_0, 1088}, {T_Q4_K, RADAR_Q4_K, 576},
               {T_Q5_K, RADAR_Q5_K, 704}, {T_Q6_K, RADAR_Q6_K, 840}};
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        gguf g = gguf_new();
        gguf_tensor(&g, "w", 2, 512, row[i].number);
        blob b;
        radar_tensorfile *tf = open_gguf(&g, &b);
        const radar_tensor *w = radar_tensorfile_find(tf, "w");
        assert_true(w->supported && w->type == row[i].type && w->bytes == row[i].bytes);
        assert_string_equal(w->type_name, radar_dtype_name(row[i].type));
        radar_tensorfile_close(tf);
        drop(&b);
    }
}

/* ---- parts of a model ---- */

/* Part no of count of a split model, with tensors named by the part. */
static void write_shard(scratch *s, const char *file, uint32_t no, uint32_t count,
                        const char *name) {
    gguf g = gguf_new();
    put(gguf_key(&g, "split.no", U16), &no, 2);
    put(gguf_key(&g, "split.count", U16), &count, 2);
    put_u32(gguf_key(&g, "split.tensors.count", I32), 3);
    gguf_tensor(&g, name, 2, 4, T_F32);
    blob b = gguf_bytes(&g, NULL);
    scratch_write(s, file, b.data, b.n);
    drop(&b);
}

static void split_models_join_all_their_parts(void **state) {
    (void)state;
    scratch s = scratch_new();
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    write_shard(&s, "m-00001-of-00003.gguf", 0, 3, "a");
    write_shard(&s, "m-00002-of-00003.gguf", 1, 3, "b");
    expect(in(&s, "m-00001-of-00003.gguf"), RADAR_ERR_NO_INPUT, "m-00003-of-00003.gguf");
    write_shard(&s, "m-00003-of-00003.gguf", 2, 3, "b");
    expect(in(&s, "m-00001-of-00003.gguf"), RADAR_ERR_DATA, "tensor b is there twice");
    write_shard(&s, "m-00003-of-00003.gguf", 1, 3, "c");
    expect(in(&s, "m-00001-of-00003.gguf"), RADAR_ERR_DATA, "does not say it is part 3 of 3");
    write_shard(&s, "m-00003-of-00003.gguf", 2, 3, "c");
    expect(in(&s, "m-00002-of-00003.gguf"), RADAR_ERR_DATA, "name its first part");
    assert_int_equal(radar_tensorfile_open(&tf, in(&s, "m-00001-of-00003.gguf"), &err), RADAR_OK);
    assert_int_equal(radar_tensorfile_count(tf), 3);
    assert_non_null(radar_tensorfile_find(tf, "a"));
    assert_non_null(
        strstr(radar_tensorfile_where(tf, radar_tensorfile_find(tf, "c")), "-00003-of"));
    radar_tensorfile_close(tf);
    scratch_end(&s);
    assert_int_equal(radar_alloc_live(), 0);
}

static void a_split_with_too_few_tensors_is_refused(void **state) {
    (void)state;
    scratch s = scratch_new();
    write_shard(&s, "m-00001-of-00002.gguf", 0, 2, "a");
    write_shard(&s, "m-00002-of-00002.gguf", 1, 2, "b");
    expect(in(&s, "m-00001-of-00002.gguf"), RADAR_ERR_DATA, "split.tensors.count is 3");
    scratch_end(&s);
}

static void write_text(scratch *s, const char *name, const char *text) {
    scratch_write(s, name, text, strlen(text));
}

static void folders_without_their_files_name_what_is_missing(void **state) {
    (void)state;
    scratch s = scratch_new();
    expect(s.folder, RADAR_ERR_NO_INPUT, "has no config.json");
    write_text(&s, "config.json", "[]");
    expect(s.folder, RADAR_ERR_DATA, "config.json is no JSON object");
    write_text(&s, "config.json", "{}");
    expect(s.folder, RADAR_ERR_NO_INPUT, "has neither model.safetensors");
    write_text(&s, "model.safetensors.index.json", "{\"weight_map\":{}}");
    expect(s.folder, RADAR_ERR_DATA, "has no weight_map");
    write_text(&s, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"b.safetensors\"}}");
    expect(s.folder, RADAR_ERR_NO_INPUT, "b.safetensors");
    scratch_end(&s);
}

static void an_index_cannot_leave_its_folder_or_lie(void **state) {
    (void)state;
    static const char *const names[] = {"../x", "/etc/passwd", "a/b",   "",
                                        "..",   ".hidden",     "a\\\\b"};
    scratch s = scratch_new();
    char text[256];
    write_text(&s, "config.json", "{}");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_text(&s, "model.safetensors.index.json", text);
        expect(s.folder, RADAR_ERR_DATA, "a is in no plain file name");
    }
    write_text(&s, "model.safetensors.index.json", "{\"weight_map\":{\"a\":7}}");
    expect(s.folder, RADAR_ERR_DATA, "a is in no plain file name");
    safetensors one = {0};
    st_tensor(&one, "b", "U8", "[2]", 2);
    blob b = st_bytes(&one);
    scratch_write(&s, "p.safetensors", b.data, b.n);
    scratch_write(&s, "q.safetensors", b.data, b.n);
    write_text(&s, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"p.safetensors\"}}");
    expect(s.folder, RADAR_ERR_DATA, "tensor a is not in p.safetensors");
    write_text(&s, "model.safetensors.index.json",
               "{\"weight_map\":{\"a\":\"p.safetensors\",\"b\":\"q.safetensors\"}}");
    expect(s.folder, RADAR_ERR_DATA, "tensor b is there twice");
    drop(&b);
    scratch_end(&s);
}

static void sharded_and_single_safetensors_open(void **state) {
    (void)state;
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    json_t *j = NULL;
    assert_int_equal(radar_tensorfile_open(&tf, TINY "llama-sharded-bf16/", &err), RADAR_OK);
    assert_false(radar_tensorfile_is_gguf(tf));
    assert_int_equal(radar_tensorfile_count(tf), 21);
    assert_int_equal(radar_tensorfile_bytes(tf), 37408 + 39808 + 33312 + 27512);
    assert_true(json_is_object(radar_tensorfile_config(tf)));
    assert_int_equal(radar_tensorfile_json(&j, tf, "tokenizer.json", &err), RADAR_OK);
    assert_null(j);
    assert_int_equal(radar_tensorfile_json(&j, tf, "config.json", &err), RADAR_OK);
    assert_non_null(j);
    json_decref(j);
    assert_int_equal(radar_tensorfile_json(&j, tf, "../config.json", &err), RADAR_OK);
    assert_null(j);
    radar_tensorfile_close(tf);
    expect(TINY "llama-tied-f32/model.safetensors", RADAR_ERR_DATA, "name the folder");
    assert_int_equal(radar_alloc_live(), 0);
}

static uint64_t fingerprint_of(const void *data, size_t n) {
    radar_tensorfile *tf = NULL;
    radar_error err = {0};
    assert_int_equal(radar_tensorfile_open_memory(&tf, data, n, NULL, &err), RADAR_OK);
    uint64_t f = radar_tensorfile_fingerprint(tf);
    radar_tensorfile_close(tf);
    return f;
}

static void fingerprints_tell_headers_sizes_and_data_apart(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    size_t header;
    blob b = gguf_bytes(&g, &header);
    uint64_t first = fingerprint_of(b.data, b.n);
    assert_true(first == fingerprint_of(b.data, b.n));
    b.data[header] ^= 1;
    assert_true(first != fingerprint_of(b.data, b.n));
    b.data[header] ^= 1;
    b.data[b.n - 1] ^= 1;
    assert_true(first != fingerprint_of(b.data, b.n));
    b.data[b.n - 1] ^= 1;
    put_u8(&b, 0);
    assert_true(first != fingerprint_of(b.data, b.n));
    drop(&b);
}

/* ---- paths that are no model files ---- */

static void paths_that_are_no_regular_files_are_refused_at_once(void **state) {
    (void)state;
    scratch s = scratch_new();
    assert_int_equal(mkfifo(in(&s, "fifo"), 0600), 0);
    double start = radar_clock();
    expect(in(&s, "fifo"), RADAR_ERR_DATA, "no regular file");
    expect("/dev/zero", RADAR_ERR_DATA, "no regular file");
    expect("/dev/random", RADAR_ERR_DATA, "no regular file");
    expect(s.folder, RADAR_ERR_NO_INPUT, "config.json");
    scratch_write(&s, "empty.gguf", "", 0);
    expect(in(&s, "empty.gguf"), RADAR_ERR_DATA, "is empty");
    scratch_write(&s, "short.gguf", "GGU", 3);
    expect(in(&s, "short.gguf"), RADAR_ERR_DATA, "truncated");
    expect(in(&s, "none.gguf"), RADAR_ERR_NO_INPUT, "none.gguf");
    expect(in(&s, "short.gguf/none"), RADAR_ERR_NO_INPUT, "none");
    expect("", RADAR_ERR_NO_INPUT, "");
    assert_int_equal(symlink("loop", in(&s, "loop")), 0);
    expect(in(&s, "loop"), RADAR_ERR_NO_INPUT, "loop");
    assert_true(radar_clock() - start < 1);
    scratch_end(&s);
}

/* A terabyte of zeros after a header that claims them: nothing may be allocated or read for the claim. */
static void a_sparse_terabyte_costs_nothing(void **state) {
    (void)state;
    scratch s = scratch_new();
    static const struct {
        uint32_t item;
        uint64_t count;
        const char *says;
    } lies[] = {{STRING, (uint64_t)1 << 36, "strings, at most"},
                {STRING, (uint64_t)1 << 62, "strings, at most"},
                {U8, ((uint64_t)1 << 40) - 4096, "a key before byte"},
                {U64, (uint64_t)1 << 38, "truncated: an array"}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        gguf g = gguf_new();
        g.n_tensors = (uint64_t)1 << 20;
        key_array(&g, "list", lies[i].item, lies[i].count);
        g.n_keys = 100;
        blob b = gguf_bytes(&g, NULL);
        scratch_write(&s, "big.gguf", b.data, b.n);
        drop(&b);
        if (truncate(in(&s, "big.gguf"), (off_t)1 << 40)) skip(); /* no such files here */
        double start = radar_clock();
        expect(in(&s, "big.gguf"), RADAR_ERR_DATA, lies[i].says);
        assert_true(radar_clock() - start < 1);
    }
    scratch_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_demo_model_lists_the_golden_tensors),
        cmocka_unit_test(the_demo_model_has_the_golden_metadata),
        cmocka_unit_test(the_demo_model_has_the_golden_numbers),
        cmocka_unit_test(the_demo_model_opens_in_20_ms),
        cmocka_unit_test(integers_of_all_widths_convert_when_they_fit),
        cmocka_unit_test(arrays_give_their_elements_and_nothing_beyond),
        cmocka_unit_test(types_without_arithmetic_are_listed_by_name),
        cmocka_unit_test(every_quantised_type_has_its_number_and_its_bytes),
        cmocka_unit_test(split_models_join_all_their_parts),
        cmocka_unit_test(a_split_with_too_few_tensors_is_refused),
        cmocka_unit_test(folders_without_their_files_name_what_is_missing),
        cmocka_unit_test(an_index_cannot_leave_its_folder_or_lie),
        cmocka_unit_test(sharded_and_single_safetensors_open),
        cmocka_unit_test(fingerprints_tell_headers_sizes_and_data_apart),
        cmocka_unit_test(paths_that_are_no_regular_files_are_refused_at_once),
        cmocka_unit_test(a_sparse_terabyte_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
