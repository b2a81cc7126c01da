/* Rotary frequencies: theta^(-2i / rotary), then the scaling.
 * Llama 3's scaling: wavelengths above old / low are divided by the factor, those below old / high stay, between them a linear blend
 * in old / wavelength.  Source: the Llama 3.1 release. */
#include <math.h>

#include "runtime/model/model_internal.h"

#define TWO_PI 6.283185307179586476925

static double llama3(double f, const radar_model_config *c) {
    double wavelength = TWO_PI / f, old = c->rope_original_context;
    if (wavelength < old / c->rope_high_freq) return f;
    if (wavelength > old / c->rope_low_freq) return f / c->rope_factor;
    double kept = (old / wavelength - c->rope_low_freq) / (c->rope_high_freq - c->rope_low_freq);
    return (1 - kept) * f / c->rope_factor + kept * f;
}

void radar_rope_frequencies(double *out, const radar_model_config *c, const float *factor) {
    for (int i = 0; i < c->rotary / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / c->rotary);
        if (factor)
            f /= factor[i];
        else if (c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3)
            f = llama3(f, c);
        else if (c->rope_scaling == RADAR_ROPE_SCALING_LINEAR)
            f /= c->rope_factor;
        out[i] = f;
    }
}
