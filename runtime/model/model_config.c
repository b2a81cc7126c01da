/* Ranges of a configuration: what a file may claim before any of it sizes anything. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/model/model_internal.h"

#define MAX_LAYERS 1024
#define MAX_WIDTH (1 << 20)
#define MAX_INNER (1 << 22)
#define MAX_HEADS (1 << 16)
#define MAX_HEAD_DIM 256
#define MAX_PROJECTED ((int64_t)1 << 22) /* heads times head size */
#define MAX_VOCAB (1 << 24)
#define MAX_CONTEXT ((int64_t)1 << 40)

static radar_status bad(const char *path, radar_error *err, const char *what, int64_t value,
                        const char *want) {
    return radar_fail(err, RADAR_ERR_DATA, "%s: %s is %" PRId64 ", must be %s",
                      radar_path_tail(path), what, value, want);
}

static radar_status bad_real(const char *path, radar_error *err, const char *what, double value,
                             const char *want) {
    return radar_fail(err, RADAR_ERR_DATA, "%s: %s is %g, must be %s", radar_path_tail(path), what,
                      value, want);
}

static radar_status check_heads(const radar_model_config *c, const char *path, radar_error *err) {
    if (c->n_heads < 1 || c->n_heads > MAX_HEADS)
        return bad(path, err, "the number of heads", c->n_heads, "1 to 65536");
    if (c->n_kv_heads < 1 || c->n_heads % c->n_kv_heads)
        return radar_fail(err, RADAR_ERR_DATA, "%s: %d KV heads do not divide %d heads",
                          radar_path_tail(path), c->n_kv_heads, c->n_heads);
    if (c->head_dim < 2 || c->head_dim > MAX_HEAD_DIM || c->head_dim % 2)
        return bad(path, err, "the head size", c->head_dim, "even, 2 to 256");
    if ((int64_t)c->n_heads * c->head_dim > MAX_PROJECTED)
        return bad(path, err, "heads times head size", (int64_t)c->n_heads * c->head_dim,
                   "at most 4194304");
    if (c->rotary < 2 || c->rotary > c->head_dim || c->rotary % 2)
        return bad(path, err, "the rotary size", c->rotary, "even, 2 to the head size");
    return RADAR_OK;
}

static bool positive(double x, double most) { return x > 0 && x <= most; } /* false for NaN */

static radar_status check_llama3(const radar_model_config *c, const char *path, radar_error *err) {
    if (!positive(c->rope_low_freq, 1e9))
        return bad_real(path, err, "the rope's low_freq_factor", c->rope_low_freq, "above 0");
    if (!(c->rope_high_freq > c->rope_low_freq && c->rope_high_freq <= 1e9))
        return bad_real(path, err, "the rope's high_freq_factor", c->rope_high_freq,
                        "above low_freq_factor");
    if (!(c->rope_original_context >= 1))
        return bad_real(path, err, "the rope's original context", c->rope_original_context,
                        "1 to 1e12");
    return RADAR_OK;
}

static radar_status check_yarn(const radar_model_config *c, const char *path, radar_error *err) {
    if (!(c->rope_theta > 1))
        return bad_real(path, err, "the rope's base", c->rope_theta, "above 1 for yarn");
    if (!positive(c->rope_beta_slow, 1e9))
        return bad_real(path, err, "the rope's beta_slow", c->rope_beta_slow, "above 0");
    if (!(c->rope_beta_fast >= c->rope_beta_slow && c->rope_beta_fast <= 1e9))
        return bad_real(path, err, "the rope's beta_fast", c->rope_beta_fast, "beta_slow or more");
    if (c->rope_magnitude != 0 && !positive(c->rope_magnitude, 1e3))
        return bad_real(path, err, "the rope's attention factor", c->rope_magnitude,
                        "above 0, at most 1000");
    return RADAR_OK;
}

radar_status radar_rope_check(const radar_model_config *c, bool divided, const char *path,
                              radar_error *err) {
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e15))
        return bad_real(path, err, "the rope's base", c->rope_theta, "1 to 1e15");
    if (c->rope_scaling == RADAR_ROPE_SCALING_NONE) return RADAR_OK;
    if (divided && c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3) return RADAR_OK;
    if (!positive(c->rope_factor, 1e9))
        return bad_real(path, err, "the rope's factor", c->rope_factor, "above 0, at most 1e9");
    if (!(c->rope_original_context >= 0 && c->rope_original_context <= 1e12))
        return bad_real(path, err, "the rope's original context", c->rope_original_context,
                        "1 to 1e12");
    if (c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3) return check_llama3(c, path, err);
    if (c->rope_scaling == RADAR_ROPE_SCALING_YARN) return check_yarn(c, path, err);
    if (c->rope_scaling == RADAR_ROPE_SCALING_DYNAMIC && c->rope_factor < 1)
        return bad_real(path, err, "the rope's factor", c->rope_factor, "1 or more for dynamic");
    return RADAR_OK;
}

radar_status radar_model_check_config(const radar_model_config *c, const radar_model_plan *plan,
                                      const char *path, radar_error *err) {
    if (c->n_layers < 1 || c->n_layers > MAX_LAYERS)
        return bad(path, err, "the number of layers", c->n_layers, "1 to 1024");
    if (c->width < 1 || c->width > MAX_WIDTH)
        return bad(path, err, "the width", c->width, "1 to 1048576");
    if (c->inner < 1 || c->inner > MAX_INNER)
        return bad(path, err, "the feed-forward width", c->inner, "1 to 4194304");
    if (c->vocab < 1 || c->vocab > MAX_VOCAB)
        return bad(path, err, "the vocabulary", c->vocab, "1 to 16777216");
    if (c->context < 1 || c->context > MAX_CONTEXT)
        return bad(path, err, "the context", c->context, "1 to 2^40");
    if (!positive(c->norm_eps, 1))
        return bad_real(path, err, "the norm's epsilon", (double)c->norm_eps, "above 0, at most 1");
    radar_status st = check_heads(c, path, err);
    return st == RADAR_OK ? radar_rope_check(c, plan->rope_factors != NULL, path, err) : st;
}

radar_status radar_model_add_eos(radar_model_config *c, int64_t id, const char *path,
                                 radar_error *err) {
    if (id < 0 || id >= c->vocab)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: the end-of-text token %" PRId64 " is not in the vocabulary of %d",
                          radar_path_tail(path), id, c->vocab);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return RADAR_OK;
    if (c->n_eos == RADAR_MODEL_MAX_EOS)
        return radar_fail(err, RADAR_ERR_DATA, "%s: more than %d end-of-text tokens",
                          radar_path_tail(path), RADAR_MODEL_MAX_EOS);
    c->eos[c->n_eos++] = (int32_t)id;
    return RADAR_OK;
}

/* Bytes of the well-formed UTF-8 character at p, 0 when there is none. */
static size_t character(const unsigned char *p, size_t bytes) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (n == 0 || n > bytes) return 0;
    if (n == 1) return p[0] >= 0x20 && p[0] != 0x7f;
    uint32_t code = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) return 0;
        code = code << 6 | (p[i] & 63u);
    }
    bool control = code < 0xa0; /* C1 controls steer terminals too */
    if (code < least[n] || control || code > 0x10ffff || code >> 11 == 27) return 0;
    return n;
}

void radar_model_set_name(radar_model_config *c, const char *text, size_t bytes) {
    size_t at = 0;
    for (size_t i = 0; i < bytes;) {
        size_t n = character((const unsigned char *)text + i, bytes - i);
        if (at + (n ? n : 1) >= sizeof c->name) break;
        if (n)
            memcpy(c->name + at, text + i, n);
        else
            c->name[at] = '?';
        at += n ? n : 1;
        i += n ? n : 1;
    }
    c->name[at] = 0;
}
