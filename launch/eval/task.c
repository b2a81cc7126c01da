#include "launch/eval/task.h"

#include <string.h>

#include "runtime/sys.h"

/* ---- tokens ---- */

radar_status eval_add_tokens(launch_job *job, eval_tokens *t, const int32_t *token, size_t n) {
    if (n > t->room - t->n) {
        const size_t room = 2 * (t->room + n) + 64;
        int32_t *bigger = radar_alloc_array(room, sizeof *bigger);
        if (bigger == NULL)
            return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %zu tokens", room);
        if (t->n > 0) memcpy(bigger, t->token, t->n * sizeof *bigger);
        radar_free(t->token);
        t->token = bigger;
        t->room = room;
    }
    if (n > 0) memcpy(t->token + t->n, token, n * sizeof *token);
    t->n += n;
    return RADAR_OK;
}

static radar_status tokenize(launch_job *job, eval_tokens *t, const char *text, int flags) {
    int32_t *token = NULL;
    size_t n = 0;
    radar_status st = radar_tokenize(job->engine, text, strlen(text), flags, &token, &n);
    if (st != RADAR_OK) return radar_fail(&job->err, st, "%s", radar_last_error(job->engine));
    st = eval_add_tokens(job, t, token, n);
    radar_release(token);
    return st;
}

radar_status eval_add_text(launch_job *job, eval_tokens *t, const char *text) {
    return text[0] != 0 ? tokenize(job, t, text, 0) : RADAR_OK;
}

static void free_tokens(eval_tokens *t) {
    radar_free(t->token);
    *t = (eval_tokens){0};
}

/* What the last byte and all bytes of a token's text are. */
static void look_at(launch_job *job, int32_t token, char *last, bool *blank) {
    char *text = NULL;
    size_t bytes = 0;
    *last = 0, *blank = false;
    if (radar_detokenize(job->engine, &token, 1, 0, &text, &bytes) != RADAR_OK) return;
    *last = bytes > 0 ? text[bytes - 1] : 0;
    *blank = true;
    for (size_t i = 0; i < bytes; i++) *blank = *blank && strchr(" \n\t", text[i]) != NULL;
    radar_release(text);
}

bool eval_ends_line(launch_job *job, int32_t token) {
    char last;
    bool blank;
    look_at(job, token, &last, &blank);
    return last == '\n';
}

/* ---- what is around a user's message ---- */

/* Where in a template applied to "@" that character stands: tokens [0, i) come before it. */
static size_t find_message(launch_job *job, const int32_t *token, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        size_t bytes = 0;
        if (radar_detokenize(job->engine, token + i, 1, 0, &text, &bytes) != RADAR_OK) return n;
        const bool found = bytes == 1 && text[0] == '@';
        radar_release(text);
        if (found) return i;
    }
    return n;
}

radar_status eval_wrap_open(launch_job *job, eval_wrap *w) {
    eval_tokens plain = {0};
    int32_t *token = NULL;
    size_t n = 0;
    *w = (eval_wrap){0};
    radar_status st = tokenize(job, &plain, "a", 0);
    if (st == RADAR_OK) st = tokenize(job, &w->before, "a", RADAR_TEXT_BOS);
    if (st == RADAR_OK) st = tokenize(job, &w->newline, "\n", 0);
    const bool begins = st == RADAR_OK && w->before.n > plain.n;
    w->before.n = begins ? 1 : 0;
    w->beginning = begins ? w->before.token[0] : -1;
    if (st == RADAR_OK && radar_chat(job->engine, NULL, "@", 1, &token, &n) == RADAR_OK) {
        const size_t at = find_message(job, token, n);
        w->chat = at < n;
        if (w->chat) {
            w->before.n = 0;
            st = eval_add_tokens(job, &w->before, token, at);
            if (st == RADAR_OK) st = eval_add_tokens(job, &w->after, token + at + 1, n - at - 1);
        }
        radar_release(token);
    }
    free_tokens(&plain);
    return st;
}

void eval_wrap_close(eval_wrap *w) {
    free_tokens(&w->before);
    free_tokens(&w->after);
    free_tokens(&w->newline);
}

/* ---- the context ---- */

int64_t eval_draft_other(const eval_draft *d, const eval_wrap *w) {
    return d->longest + (int64_t)w->before.n;
}

/* Where the line that token `at` of the filler lies in ends; -1: not soon. */
static int64_t line_end(eval_draft *d, const int32_t *filler, int64_t n_filler, int64_t start,
                        int64_t at, int64_t end) {
    enum { SOON = 256 };
    for (int64_t i = at; i < end && i < at + SOON; i++)
        if (eval_ends_line(d->job, filler[(start + i) % n_filler])) return i + 1;
    return -1;
}

static radar_status copy_filler(eval_draft *d, const int32_t *filler, int64_t n_filler,
                                int64_t start, int64_t begin, int64_t end) {
    radar_status st = RADAR_OK;
    while (begin < end && st == RADAR_OK) {
        const int64_t at = (start + begin) % n_filler, n = radar_min64(end - begin, n_filler - at);
        st = eval_add_tokens(d->job, &d->context, filler + at, (size_t)n);
        begin += n;
    }
    return st;
}

radar_status eval_fill(eval_draft *d, const eval_wrap *w, const int32_t *filler, int64_t n_filler,
                       int64_t start, int64_t room, eval_insert *insert, int n) {
    int64_t lines = 0, done = 0;
    for (int i = 0; i < n; i++) lines += (int64_t)insert[i].line.n;
    const int64_t around = room - lines - n * (int64_t)w->newline.n;
    if (around < 2 * n || n_filler < 1)
        return radar_fail(&d->job->err, RADAR_ERR_DATA,
                          "%d lines of %lld tokens do not fit a text of %lld: raise --length", n,
                          (long long)lines, (long long)room);
    radar_status st = eval_add_tokens(d->job, &d->context, w->before.token, w->before.n);
    for (int i = 0; i < n && st == RADAR_OK; i++) {
        const int64_t at = radar_max64(done, (int64_t)(insert[i].depth * (double)around));
        const int64_t line = line_end(d, filler, n_filler, start, at, around),
                      end = line < 0 ? at : line;
        st = copy_filler(d, filler, n_filler, start, done, end);
        if (st == RADAR_OK && line < 0)
            st = eval_add_tokens(d->job, &d->context, w->newline.token, w->newline.n);
        if (st == RADAR_OK)
            st = eval_add_tokens(d->job, &d->context, insert[i].line.token, insert[i].line.n);
        done = end;
    }
    return st == RADAR_OK ? copy_filler(d, filler, n_filler, start, done, around) : st;
}

/* ---- probes ---- */

radar_status eval_ask(eval_draft *d, const eval_wrap *w, const char *question, const char *lead) {
    radar_status st = RADAR_OK;
    if (w->chat) {
        st = eval_add_text(d->job, &d->question, "\n\n");
        if (st == RADAR_OK) st = eval_add_text(d->job, &d->question, question);
        if (st == RADAR_OK) st = eval_add_tokens(d->job, &d->question, w->after.token, w->after.n);
    } else {
        st = eval_add_text(d->job, &d->question, "\n");
    }
    return st == RADAR_OK ? eval_add_text(d->job, &d->question, lead) : st;
}

radar_status eval_answer(eval_draft *d, const char *text, int reference) {
    const size_t begin = d->answer.n;
    bool before = true;
    radar_status st = eval_add_text(d->job, &d->answer, text);
    for (size_t i = begin; i < d->answer.n && st == RADAR_OK; i++) {
        char last;
        bool blank = false;
        if (before) look_at(d->job, d->answer.token[i], &last, &blank);
        before = before && blank;
        const int32_t of = before ? -1 : reference;
        st = eval_add_tokens(d->job, &d->reference, &of, 1);
    }
    return st;
}

radar_status eval_end_probe(eval_draft *d) {
    const int32_t size[] = {(int32_t)d->question.n, (int32_t)d->answer.n};
    eval_tokens *all = &d->probes;
    radar_status st = eval_add_tokens(d->job, all, size, 2);
    if (st == RADAR_OK) st = eval_add_tokens(d->job, all, d->question.token, d->question.n);
    if (st == RADAR_OK) st = eval_add_tokens(d->job, all, d->answer.token, d->answer.n);
    if (st == RADAR_OK) st = eval_add_tokens(d->job, all, d->reference.token, d->reference.n);
    d->longest = radar_max64(d->longest, (int64_t)(d->question.n + d->answer.n));
    d->question.n = d->answer.n = d->reference.n = 0;
    d->n_probes++;
    return st;
}

void eval_draft_close(eval_draft *d) {
    free_tokens(&d->context);
    free_tokens(&d->question);
    free_tokens(&d->answer);
    free_tokens(&d->reference);
    free_tokens(&d->probes);
}

/* ---- shared ---- */

/* Packed: tokens of the context, number of probes; the context; each probe: tokens of question and answer, both, references. */
static void unpack(eval_task *t) {
    const int32_t *at = t->packed.token + 2;
    t->context = at;
    at += t->n_context;
    for (int i = 0; i < t->n_probes; i++) {
        eval_probe *p = &t->probe[i];
        p->question = at[0], p->answer = at[1];
        p->token = at + 2;
        p->reference = p->token + p->question + p->answer;
        at = p->reference + p->answer;
        t->longest = radar_max64(t->longest, p->question + p->answer);
    }
}

radar_status eval_task_share(launch_job *job, eval_task *t, const eval_draft *d) {
    eval_tokens all = {0};
    *t = (eval_task){0};
    if (job->world->rank == 0 && job->err.status == RADAR_OK) {
        const int32_t size[] = {(int32_t)d->context.n, (int32_t)d->n_probes};
        if (eval_add_tokens(job, &all, size, 2) == RADAR_OK &&
            eval_add_tokens(job, &all, d->context.token, d->context.n) == RADAR_OK)
            eval_add_tokens(job, &all, d->probes.token, d->probes.n);
    }
    radar_status st = launch_prompt_share(job, &t->packed, all.token, all.n);
    free_tokens(&all);
    if (st != RADAR_OK) return st;
    t->n_context = t->packed.token[0], t->n_probes = t->packed.token[1];
    t->probe = radar_alloc_array((size_t)t->n_probes, sizeof *t->probe);
    if (t->probe == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the questions");
    else
        unpack(t);
    return launch_agree(job);
}

void eval_task_free(eval_task *t) {
    launch_prompt_free(&t->packed);
    radar_free(t->probe);
    *t = (eval_task){0};
}

/* ---- answered ---- */

radar_status eval_task_prefill(eval_context *c, const eval_task *t) {
    return eval_prefilled(c, t->context, t->n_context, t->n_context + t->longest);
}

static void judge(const eval_probe *p, const double *loss, const unsigned char *hit,
                  eval_result *r) {
    int64_t end;
    *r = (eval_result){0};
    for (int64_t i = 0; i < p->answer; i = end) {
        int64_t likeliest = 0;
        for (end = i; end < p->answer && p->reference[end] == p->reference[i]; end++) {
            likeliest += hit[end];
            if (p->reference[i] >= 0) r->nll += loss[end];
        }
        if (p->reference[i] < 0) continue;
        r->tokens += end - i;
        r->likeliest += likeliest;
        r->references++;
        r->found += likeliest == end - i;
    }
}

radar_status eval_task_ask(eval_context *c, const eval_task *t, int probe, eval_result *result) {
    launch_job *job = c->job;
    const eval_probe *p = &t->probe[probe];
    const int64_t last = p->question - 1; /* its row gives the answer's first token */
    double *loss = radar_alloc_array((size_t)p->answer, sizeof *loss);
    unsigned char *hit = radar_alloc_array((size_t)p->answer, sizeof *hit);
    if (loss == NULL || hit == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld losses", (long long)p->answer);
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = eval_back(c, t->n_context);
    if (st == RADAR_OK && last > 0) {
        st = radar_score(job->session, p->token, (size_t)last, NULL);
        if (st != RADAR_OK) launch_library_failed(job, st);
    }
    if (st == RADAR_OK) st = eval_losses(c, p->token, last, last + p->answer, loss, hit, NULL);
    if (st == RADAR_OK) judge(p, loss, hit, result);
    radar_free(loss);
    radar_free(hit);
    return st;
}
