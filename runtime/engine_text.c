/* Text in and out of an engine: the public face of tokenizer.h and template.h. */
#include "runtime/engine.h"

#include "runtime/sys.h"
#include "runtime/text/template.h"

radar_status radar_engine_tokenizer(radar_engine *e, radar_error *err) {
    if (e->tokenizer || e->tokenizer_missing) return RADAR_OK;
    radar_status st = radar_tokenizer_open(&e->tokenizer, e->model->file, e->tokenizer_path, err);
    e->tokenizer_missing = st == RADAR_OK && !e->tokenizer;
    return st;
}

/* Every public call starts with a clean error. */
static radar_status need_tokenizer(radar_engine *e) {
    e->err = (radar_error){0};
    radar_status st = radar_engine_tokenizer(e, &e->err);
    if (st == RADAR_OK && !e->tokenizer)
        st = radar_fail(
            &e->err, RADAR_ERR_NO_INPUT,
            "%s: no tokenizer beside the model; give token ids (--ids FILE) or --tokenizer FILE",
            e->model_path);
    return st;
}

radar_status radar_tokenize(radar_engine *e, const char *text, size_t bytes, int flags,
                            int32_t **token, size_t *n) {
    int how = (flags & RADAR_TEXT_SPECIAL ? RADAR_TOKENIZE_SPECIAL : 0) |
              (flags & RADAR_TEXT_BOS ? RADAR_TOKENIZE_BOS : 0);
    radar_status st = need_tokenizer(e);
    return st == RADAR_OK
               ? radar_tokenizer_encode(e->tokenizer, text, bytes, how, token, n, &e->err)
               : st;
}

radar_status radar_chat(radar_engine *e, const char *template_name, const char *text, size_t bytes,
                        int32_t **token, size_t *n) {
    const radar_template *tp = NULL;
    const radar_message message = {"user", text, bytes};
    radar_status st = need_tokenizer(e);
    if (st == RADAR_OK) st = radar_template_find(&tp, template_name, e->model->file, &e->err);
    return st == RADAR_OK ? radar_template_apply(tp, e->tokenizer, &message, 1, token, n, &e->err)
                          : st;
}

radar_status radar_detokenize(radar_engine *e, const int32_t *token, size_t n, int skip_special,
                              char **text, size_t *bytes) {
    radar_status st = need_tokenizer(e);
    return st == RADAR_OK ? radar_tokenizer_decode(e->tokenizer, token, n, skip_special != 0, text,
                                                   bytes, &e->err)
                          : st;
}

struct radar_text_stream {
    radar_detokenizer d;
    char out[]; /* radar_detokenize_room bytes */
};

radar_status radar_text_stream_open(radar_text_stream **out, radar_engine *e, int skip_special) {
    *out = NULL;
    radar_status st = need_tokenizer(e);
    if (st != RADAR_OK) return st;
    radar_text_stream *ts = radar_alloc(sizeof *ts + radar_detokenize_room(e->tokenizer));
    if (!ts) return radar_fail(&e->err, RADAR_ERR_MEMORY, "text stream: no memory");
    ts->d = (radar_detokenizer){.t = e->tokenizer, .skip_special = skip_special != 0};
    *out = ts;
    return RADAR_OK;
}

void radar_text_stream_push(radar_text_stream *ts, int32_t token, const char **text,
                            size_t *bytes) {
    *bytes = radar_detokenize_push(&ts->d, token, ts->out);
    *text = ts->out;
}

void radar_text_stream_end(radar_text_stream *ts, const char **text, size_t *bytes) {
    *bytes = radar_detokenize_end(&ts->d, ts->out);
    *text = ts->out;
}

void radar_text_stream_close(radar_text_stream *ts) { radar_free(ts); }

int radar_is_eos(const radar_engine *e, int32_t token) {
    const radar_model_config *c = &e->model->config;
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == token) return 1;
    return 0;
}

void radar_release(void *memory) { radar_free(memory); }
