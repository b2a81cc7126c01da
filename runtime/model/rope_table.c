/* Rotary frequencies theta^(-2i / rotary), and their scalings for contexts past training.  With s the factor and L the context
 * before scaling:
 *   linear   f / s.  Source: Chen et al., arXiv 2306.15595.
 *   llama3   wavelengths above L / low are divided by s, those below L / high stay, between them a linear blend in L / wavelength.
 *            Source: the Llama 3.1 release.
 *   yarn     dimensions that turn more than beta_fast times within L stay, those that turn less than beta_slow times are divided by
 *            s, between them a linear blend in the dimension; cos and sin times 0.1 ln s + 1.  Source: Peng et al., arXiv 2309.00071,
 *            3.2-3.4, with the bounds of its reference implementation (taken to whole dimensions).
 *   dynamic  theta' = theta (s t / L - (s - 1))^(d / (d - 2)) for t > L tokens.  Source: the "dynamic NTK" of the same paper, 3.3 and
 *            appendix.  There t grows with the text, and every key is rotated again.  A cache holds keys already rotated, so t is
 *            the session's capacity from its first token on: the same rotation for all of its keys and queries. */
#include <math.h>

#include "runtime/model/model_internal.h"

#define TWO_PI 6.283185307179586476925

const char *radar_rope_scaling_name(radar_rope_scaling s) {
    static const char *const name[] = {"none", "linear", "llama3", "yarn", "dynamic"};
    return name[s];
}

static double llama3(double f, const radar_model_config *c) {
    double wavelength = TWO_PI / f, old = c->rope_original_context;
    if (wavelength < old / c->rope_high_freq) return f;
    if (wavelength > old / c->rope_low_freq) return f / c->rope_factor;
    double kept = (old / wavelength - c->rope_low_freq) / (c->rope_high_freq - c->rope_low_freq);
    return (1 - kept) * f / c->rope_factor + kept * f;
}

void radar_rope_frequencies(double *out, const radar_model_config *c, const float *divisor) {
    for (int i = 0; i < c->rotary / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / c->rotary);
        if (divisor)
            f /= (double)divisor[i];
        else if (c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3)
            f = llama3(f, c);
        out[i] = f;
    }
}

static double original(const radar_model_config *c) {
    return c->rope_original_context > 0 ? c->rope_original_context : (double)c->unscaled;
}

void radar_rope_extend(radar_model_config *c) {
    double most = 1e12, stored = (double)c->context;
    bool scaled =
        c->rope_scaling != RADAR_ROPE_SCALING_NONE && c->rope_scaling != RADAR_ROPE_SCALING_LLAMA3;
    c->unscaled = c->context;
    if (!scaled || stored < 1 || !(c->rope_factor > 1 && c->rope_factor <= 1e6)) return;
    bool named = c->rope_scaling != RADAR_ROPE_SCALING_LINEAR && c->rope_original_context >= 1 &&
                 c->rope_original_context <= most;
    double before = named ? c->rope_original_context : stored, after = before * c->rope_factor;
    c->unscaled = (int64_t)before;
    if (named && after < stored) after = stored; /* some files store the context after scaling */
    if (after <= most) c->context = (int64_t)after;
}

/* The dimension, counted in pairs, that turns `turns` times within the original context. */
static double dimension_of(double turns, const radar_model_config *c) {
    return c->rotary * log(original(c) / (turns * TWO_PI)) / (2 * log(c->rope_theta));
}

static double yarn(double *f, const radar_model_config *c) {
    double low = dimension_of(c->rope_beta_fast, c), high = dimension_of(c->rope_beta_slow, c);
    if (!c->rope_fractional) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, c->rotary - 1);
    if (low == high) high += 0.001; /* no division by zero */
    for (int i = 0; i < c->rotary / 2; i++) {
        double divided = fmin(fmax((i - low) / (high - low), 0), 1);
        f[i] = f[i] * (1 - divided) + f[i] / c->rope_factor * divided;
    }
    if (c->rope_magnitude > 0) return c->rope_magnitude;
    return c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1;
}

static void dynamic(double *f, const radar_model_config *c, int64_t context) {
    double s = c->rope_factor, d = c->rotary, t = (double)context / original(c);
    if (t <= 1 || d <= 2) return;                     /* with one pair the only frequency is 1 */
    double grown = pow(s * t - (s - 1), d / (d - 2)); /* theta' / theta */
    for (int i = 0; i < c->rotary / 2; i++) f[i] *= pow(grown, -2.0 * i / d);
}

double radar_rope_session(double *frequency, const radar_model *m, int64_t context) {
    const radar_model_config *c = &m->config;
    for (int i = 0; i < c->rotary / 2; i++) frequency[i] = m->rope_frequency[i];
    if (c->rope_scaling == RADAR_ROPE_SCALING_YARN) return yarn(frequency, c);
    if (c->rope_scaling == RADAR_ROPE_SCALING_DYNAMIC) dynamic(frequency, c, context);
    if (c->rope_scaling == RADAR_ROPE_SCALING_LINEAR)
        for (int i = 0; i < c->rotary / 2; i++) frequency[i] /= c->rope_factor;
    return 1;
}
