/* template.h - chat templates: named, built in, recognised from the model's own; never executed (no Jinja).
 *
 * A conversation becomes token ids: the scaffolding with special tokens, the contents of messages without. */
#ifndef RADAR_TEMPLATE_H
#define RADAR_TEMPLATE_H

#include "runtime/base.h"
#include "runtime/model/tensorfile.h"
#include "runtime/text/tokenizer.h"

typedef struct radar_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* [bytes] UTF-8 */
    size_t bytes;
} radar_message;

typedef struct radar_template radar_template;

/* [this rank] By name ("chatml", "llama3", "llama2", "mistral", "zephyr"), or when name is NULL by recognising the template in the model's
 * metadata (tokenizer.chat_template, tokenizer_config.json).  Not recognised: RADAR_ERR_CONFIG with the names there are.
 * The result is constant data, not freed. */
radar_status radar_template_find(const radar_template **out, const char *name,
                                 const radar_tensorfile *tf, radar_error *err);
const char *radar_template_name(const radar_template *tp);

/* [this rank] Ids of the conversation, ending where the assistant's answer begins.  *ids is freed with radar_free. */
radar_status radar_template_apply(const radar_template *tp, const radar_tokenizer *t,
                                  const radar_message *message, size_t n_messages, int32_t **ids,
                                  size_t *n, radar_error *err);

#endif
