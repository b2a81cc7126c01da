#include "kernels/scorer.h"

#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"

extern const radar_scorer_kind radar_scorer_sketch, radar_scorer_mean, radar_scorer_outlier,
    radar_scorer_minmax, radar_scorer_rf, radar_scorer_exact, radar_scorer_q8top;

const radar_scorer_kind *const radar_scorers[] = {
    &radar_scorer_sketch, &radar_scorer_mean,  &radar_scorer_outlier, &radar_scorer_minmax,
    &radar_scorer_rf,     &radar_scorer_exact, &radar_scorer_q8top,   NULL};

static const radar_scorer_kind *find(const char *name) {
    for (int i = 0; radar_scorers[i]; i++)
        if (strcmp(radar_scorers[i]->name, name) == 0) return radar_scorers[i];
    return NULL;
}

static radar_status unknown(const char *name, radar_error *err) {
    char names[128] = "";
    size_t used = 0;
    for (int i = 0; radar_scorers[i] && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 radar_scorers[i]->name);
    return radar_fail(err, RADAR_ERR_USAGE, "scorer '%s': unknown; use one of %s", name, names);
}

radar_status radar_scorer_open(radar_scorer **out, const char *name,
                               const radar_scorer_options *opt, radar_error *err) {
    *out = NULL;
    const radar_scorer_kind *kind = find(name);
    if (!kind) return unknown(name, err);
    if (opt->D < 2 || opt->D > 256 || opt->D % 2)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "scorer '%s': head size %d; must be even, 2 to 256", name, opt->D);
    radar_scorer *s = radar_alloc(sizeof *s);
    if (!s)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer '%s': no memory for %zu bytes", name,
                          sizeof *s);
    *s = (radar_scorer){.kind = kind, .opt = *opt};
    radar_status st = kind->open(s, err);
    if (st != RADAR_OK) {
        radar_free(s);
        return st;
    }
    *out = s;
    return RADAR_OK;
}

void radar_scorer_close(radar_scorer *s) {
    if (!s) return;
    s->kind->close(s);
    radar_free(s);
}
