/* tensorfile_internal.h - the pieces a tensorfile is made of; for tensorfile.c, its readers and the fuzz targets.
 *
 * A model is one or more parts (files).  A reader checks one part and lists its tensors; tensorfile.c joins the lists. */
#ifndef RADAR_TENSORFILE_INTERNAL_H
#define RADAR_TENSORFILE_INTERNAL_H

#include "runtime/model/tensorfile.h"

/* Limits on what a file may claim; real models stay far below them. */
#define RADAR_FILE_MAX_TENSORS ((size_t)1 << 20)
#define RADAR_FILE_MAX_KEYS ((size_t)1 << 20)
#define RADAR_FILE_MAX_STRING ((size_t)64 << 20)
#define RADAR_FILE_MAX_ARRAY_STRINGS ((size_t)1 << 24) /* of all arrays together */
#define RADAR_FILE_MAX_PARTS 99999
#define RADAR_JSON_MAX_BYTES ((size_t)100 * 1000 * 1000)
#define RADAR_JSON_MAX_DEPTH 64
#define RADAR_JSON_MAX_VALUES ((size_t)1 << 24)

/* ---- mapping.c ---- */

typedef struct radar_mapping {
    const unsigned char *data; /* [bytes], read-only */
    size_t bytes;
    bool mapped; /* else the bytes belong to the caller */
} radar_mapping;

/* Maps a regular, non-empty file; anything else is refused without being read. */
radar_status radar_mapping_open(radar_mapping *m, const char *path, radar_error *err);
void radar_mapping_close(radar_mapping *m);
/* Gives the pages back to the system until they are read again; a refusal changes nothing. */
void radar_mapping_rest(const radar_mapping *m);
/* The end of a long path, so that a message keeps its fact. */
const char *radar_path_tail(const char *path);
/* folder/name as a new string; NULL without memory. */
char *radar_path_join(const char *folder, const char *name);
/* Text from a file for a message: control characters and bytes beyond ASCII become '?'; cut to fit. */
typedef struct radar_shown {
    char text[96];
} radar_shown;
radar_shown radar_show(const char *text, size_t bytes);

/* ---- json.c ---- */

/* Checked parse: size, depth and number of values are bounded, duplicate keys and bad UTF-8 refused.  label: where the text is from. */
radar_status radar_json_parse(json_t **out, const char *label, const void *text, size_t bytes,
                              radar_error *err);
/* The same of a whole file; *hash (may be NULL) becomes the XXH3 of its bytes. */
radar_status radar_json_read(json_t **out, const char *path, uint64_t *hash, radar_error *err);

/* ---- names.c: names sorted once, found by bisection ---- */

typedef struct radar_name {
    const char *text;
    size_t bytes;
    size_t item;
} radar_name;

void radar_names_sort(radar_name *name, size_t n);
/* The item of a name that is there twice, or -1; after sorting. */
int64_t radar_names_duplicate(const radar_name *name, size_t n);
int64_t radar_names_find(const radar_name *name, size_t n, const char *text, size_t bytes);

/* ---- parts ---- */

typedef struct radar_part {
    char *path;
    radar_mapping map;
    size_t header_bytes;  /* everything before the data of the tensors */
    radar_tensor *tensor; /* [n_tensors] in the order of the data; given up when parts are joined */
    size_t n_tensors;
    char *names; /* of the tensors */
} radar_part;

/* ---- gguf.c ---- */

typedef enum radar_gguf_type {
    RADAR_GGUF_U8,
    RADAR_GGUF_I8,
    RADAR_GGUF_U16,
    RADAR_GGUF_I16,
    RADAR_GGUF_U32,
    RADAR_GGUF_I32,
    RADAR_GGUF_F32,
    RADAR_GGUF_BOOL,
    RADAR_GGUF_STRING,
    RADAR_GGUF_ARRAY,
    RADAR_GGUF_U64,
    RADAR_GGUF_I64,
    RADAR_GGUF_F64,
    RADAR_GGUF_TYPES
} radar_gguf_type;

typedef struct radar_gguf_value {
    const char *key; /* [key_bytes] in the map */
    size_t key_bytes;
    radar_gguf_type type, item; /* item: of an array */
    size_t count;               /* elements of an array */
    const unsigned char
        *at;             /* in the map: the scalar, the string's text, the array's first element */
    size_t bytes;        /* of a string's text */
    uint64_t *string_at; /* array of strings: where each one's length lies, counted from `at` */
} radar_gguf_value;

typedef struct radar_gguf_table {
    radar_gguf_value *value;
    radar_name *index; /* sorted */
    size_t n;
} radar_gguf_table;

/* Reads header, metadata and tensor list of p->map.  On failure the caller frees part and table all the same. */
radar_status radar_gguf_read(radar_part *p, radar_gguf_table *t, radar_error *err);
void radar_gguf_table_free(radar_gguf_table *t);
size_t radar_gguf_type_bytes(radar_gguf_type type); /* 0: string, array */

/* ---- gguf_value.c ---- */

const radar_gguf_value *radar_gguf_find(const radar_gguf_table *t, const char *key);
bool radar_gguf_value_int(const radar_gguf_value *v, int64_t *value);

/* ---- safetensors.c ---- */

radar_status radar_safetensors_read(radar_part *p, radar_error *err);

/* ---- tensorfile.c ---- */

struct radar_tensorfile {
    char *path;
    bool gguf;
    radar_part *part; /* [n_parts] */
    size_t n_parts;
    radar_tensor *tensor; /* [n_tensors], all parts */
    radar_name *index;    /* sorted */
    size_t n_tensors;
    radar_gguf_table meta; /* of the first part */
    json_t *config;
    uint64_t json_hash; /* of config.json and the index */
};

radar_status radar_tensorfile_add_parts(radar_tensorfile *tf, size_t n, radar_error *err);
/* Maps path into the next part; takes the string. */
radar_status radar_part_open(radar_part *p, char *path, radar_error *err);
/* One list of all tensors; a name in two places is refused. */
radar_status radar_tensorfile_join(radar_tensorfile *tf, radar_error *err);
/* The path of the part that holds a tensor. */
const char *radar_tensorfile_where(const radar_tensorfile *tf, const radar_tensor *t);
/* Opens bytes as if they were a file; they must outlive the result.  config: config.json of a safetensors file, NULL for GGUF. */
radar_status radar_tensorfile_open_memory(radar_tensorfile **out, const void *data, size_t bytes,
                                          const char *config, radar_error *err);

/* gguf_split.c, safetensors_folder.c: all parts of a model */
radar_status radar_gguf_open_all(radar_tensorfile *tf, radar_error *err);
radar_status radar_safetensors_open_all(radar_tensorfile *tf, radar_error *err);

#endif
