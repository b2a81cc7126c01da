/* Rope scaling as options say it, in place of what the file says. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/model/model_internal.h"

static radar_status find_scaling(radar_rope_scaling *out, const char *name, radar_error *err) {
    for (int i = RADAR_ROPE_SCALING_NONE; i <= RADAR_ROPE_SCALING_DYNAMIC; i++)
        if (strcmp(name, radar_rope_scaling_name((radar_rope_scaling)i)) == 0) {
            *out = (radar_rope_scaling)i;
            return RADAR_OK;
        }
    return radar_fail(err, RADAR_ERR_USAGE,
                      "--rope-scaling '%.40s': not known; use none, linear, yarn, dynamic or "
                      "llama3",
                      name);
}

/* The kind that the options ask for: a factor alone is one for the file's own kind, or for linear. */
static radar_status asked_scaling(radar_rope_scaling *out, const radar_model_config *c,
                                  const radar_rope_override *o, radar_error *err) {
    bool bare =
        c->rope_scaling == RADAR_ROPE_SCALING_NONE || c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3;
    *out = o->factor > 0 && bare ? RADAR_ROPE_SCALING_LINEAR : c->rope_scaling;
    radar_status st = o->scaling ? find_scaling(out, o->scaling, err) : RADAR_OK;
    if (st != RADAR_OK) return st;
    if (*out == RADAR_ROPE_SCALING_NONE && (o->factor > 0 || o->original_context > 0))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--rope-scale and --yarn-orig-ctx are of no use without rope scaling; "
                          "give --rope-scaling too");
    if (o->factor <= 0 && *out != RADAR_ROPE_SCALING_NONE && *out != c->rope_scaling)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--rope-scaling %s needs --rope-scale N: N times the model's %" PRId64
                          " tokens of context",
                          o->scaling, c->unscaled);
    return RADAR_OK;
}

/* c under the scaling that is asked for; what the options leave open is the file's, or the kind's default. */
static void set_scaling(radar_model_config *c, radar_rope_scaling kind,
                        const radar_rope_override *o) {
    bool other = c->rope_scaling != kind, llama3 = kind == RADAR_ROPE_SCALING_LLAMA3;
    if (other) {
        c->rope_low_freq = 1, c->rope_high_freq = 4; /* as Llama 3.1 has them */
        c->rope_beta_fast = 32, c->rope_beta_slow = 1;
        c->rope_magnitude = 0;
        c->rope_original_context = llama3 ? (double)c->unscaled : 0;
    }
    if (o->factor > 0) c->rope_factor = o->factor, c->rope_magnitude = 0;
    if (o->original_context > 0) c->rope_original_context = (double)o->original_context;
    c->rope_scaling = kind;
    if (!llama3) {
        c->context = c->unscaled;
        radar_rope_extend(c);
    } else if (other || o->factor > 0 || o->original_context > 0) {
        c->context = (int64_t)fmin(c->rope_original_context * c->rope_factor, 1e12);
    }
    if (c->window > 0) c->context = radar_min64(c->context, c->window);
}

radar_status radar_model_set_rope(radar_model *m, const radar_rope_override *o, radar_error *err) {
    const char *path = radar_path_tail(radar_tensorfile_path(m->file));
    radar_model_config *c = &m->config, own = *c, next;
    radar_rope_scaling kind;
    radar_status st;
    if (!o->scaling && o->factor <= 0 && o->theta <= 0 && o->original_context <= 0) return RADAR_OK;
    RADAR_TRY(st, asked_scaling(&kind, c, o, err), fail);
    if (o->theta > 0) own.rope_theta = o->theta;
    bool under = c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3; /* and stays, under what is asked */
    if (kind == RADAR_ROPE_SCALING_LLAMA3 && m->rope_divisor && (o->scaling || o->original_context))
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "--rope-scaling llama3: %s has that scaling already; leave it out", path);
    next = own;
    if (!under || kind != RADAR_ROPE_SCALING_NONE) set_scaling(&next, kind, o);
    RADAR_TRY(st, radar_rope_check(&next, m->rope_divisor != NULL, path, err), fail);
    bool kept = under && kind != RADAR_ROPE_SCALING_LLAMA3;
    radar_rope_frequencies(m->rope_frequency, kept ? &own : &next, m->rope_divisor);
    *c = next;
fail:
    return st;
}
