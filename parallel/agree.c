#include "parallel/agree.h"

#include <stdio.h>
#include <string.h>

/* "rank 3: " stands there already, from an agreement before. */
static bool names_a_rank(const char *text) {
    if (strncmp(text, "rank ", 5) != 0) return false;
    const char *digits = text + 5;
    size_t n = strspn(digits, "0123456789");
    return n > 0 && strncmp(digits + n, ": ", 2) == 0;
}

/* What the culprit tells the others. */
static void name_rank(const radar_comm *c, radar_error *err) {
    char text[sizeof err->text];
    if (names_a_rank(err->text)) return;
    memcpy(text, err->text, sizeof text);
    snprintf(err->text, sizeof err->text, "rank %d: %.*s", c->rank, (int)sizeof text - 32, text);
}

radar_status radar_agree(radar_comm *c, radar_error *err) {
    radar_status status = err->status;
    radar_error lost = {0};
    int culprit = 0;
    if (radar_worst(c, &status, &culprit, &lost) != RADAR_OK) goto alone;
    if (status == RADAR_OK || c->size == 1) return status;
    if (culprit == c->rank) name_rank(c, err);
    if (radar_broadcast(c, err->text, sizeof err->text, culprit, &lost) != RADAR_OK) goto alone;
    err->text[sizeof err->text - 1] = '\0';
    return err->status = status;
alone: /* an error this rank had before is the better story */
    radar_fail(err, lost.status, "%s", lost.text);
    return err->status;
}

/* The value most ranks have; of equally many, the one whose first rank is lowest. */
static uint64_t majority(const uint64_t *value, int n) {
    int best = 0, most = 0;
    for (int i = 0; i < n; i++) {
        int same = 0;
        for (int j = 0; j < n; j++) same += value[j] == value[i];
        if (same > most) {
            most = same;
            best = i;
        }
    }
    return value[best];
}

radar_status radar_agree_same(radar_comm *c, const char *what, uint64_t value, radar_error *err) {
    uint64_t all[RADAR_MAX_RANKS];
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    for (int r = 0; r < c->size; r++) {
        bytes[r] = sizeof *all;
        offset[r] = (size_t)r * sizeof *all;
    }
    all[c->rank] = value;
    radar_status st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, err);
    if (st != RADAR_OK) return st;

    char odd[RADAR_MAX_RANKS * 4] = "";
    uint64_t right = majority(all, c->size);
    int n = 0;
    for (int r = 0; r < c->size; r++) {
        if (all[r] == right) continue;
        size_t used = strlen(odd);
        snprintf(odd + used, sizeof odd - used, "%s%d", n++ ? ", " : "", r);
    }
    if (n == 0) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DISAGREE,
                      "%s: rank%s %s differ%s from the other %d; start all ranks with the same %s",
                      what, n > 1 ? "s" : "", odd, n > 1 ? "" : "s", c->size - n, what);
}
