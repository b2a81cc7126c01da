/* Pinned memory is read and written by the GPU through the socket it hangs on: a rank that runs on the other one pays the way between
 * them for every step's parameters.  What is beside a GPU stands in sysfs, which needs no library. */
#include "launch/place.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

bool launch_core_list(cpu_set_t *out, const char *text) {
    CPU_ZERO(out);
    while (isdigit((unsigned char)*text)) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-' && isdigit((unsigned char)end[1])) last = strtoul(end + 1, &end, 10);
        if (last < first || last >= CPU_SETSIZE) return false;
        for (unsigned long core = first; core <= last; core++) CPU_SET(core, out);
        text = *end == ',' ? end + 1 : end;
    }
    return (*text == '\0' || *text == '\n') && CPU_COUNT(out) > 0;
}

static bool read_list(cpu_set_t *out, const char *path) {
    char text[4096];
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const bool ok = fgets(text, sizeof text, f) && launch_core_list(out, text);
    fclose(f);
    return ok;
}

int launch_bind_near(const char *bus) {
    cpu_set_t now, all, near;
    char path[96];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%.32s/local_cpulist", bus);
    for (char *at = path; *at; at++) *at = (char)tolower((unsigned char)*at);
    if (!*bus || sched_getaffinity(0, sizeof now, &now) != 0) return 0;
    if (!read_list(&all, "/sys/devices/system/cpu/online") || !read_list(&near, path)) return 0;
    CPU_AND(&near, &near, &now);
    /* bound already, or all of them are near, or none that it may use */
    if (!CPU_EQUAL(&now, &all) || CPU_EQUAL(&near, &now) || CPU_COUNT(&near) == 0) return 0;
    return sched_setaffinity(0, sizeof near, &near) == 0 ? CPU_COUNT(&near) : 0;
}
