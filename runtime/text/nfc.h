/* nfc.h - Unicode normalisation form C of valid UTF-8 (UAX 15), in linear time whatever the text. */
#ifndef RADAR_NFC_H
#define RADAR_NFC_H

#include "runtime/text/arena.h"
#include "runtime/base.h"

/* [this rank] *out is text itself when nothing changes, else taken from the arena. */
radar_status radar_nfc(radar_arena *a, const char *text, size_t bytes, const char **out,
                       size_t *out_bytes, radar_error *err);

#endif
