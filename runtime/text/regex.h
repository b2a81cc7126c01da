/* regex.h - an expression written for Oniguruma, as PCRE2 must read it to mean the same. */
#ifndef RADAR_REGEX_H
#define RADAR_REGEX_H

#include "runtime/base.h"

#define RADAR_REGEX_MAX 16384 /* bytes of an expression */

/* [this rank] *out, NUL-terminated, is freed with radar_free.  Constructs whose meaning differs or is not known are refused. */
radar_status radar_regex_translate(const char *pattern, size_t bytes, char **out, size_t *out_bytes,
                                   radar_error *err);

#endif
