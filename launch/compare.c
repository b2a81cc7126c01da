/* radar compare: one prefill, then the same continuation under --attention and under dense attention, in one engine.
 *
 *   text:  [0, base) prefilled densely, once | [base, n): the tail, scored | the question | the answer, decoded
 *                                              '---- under --attention, then again, from base, under dense ----' */
#include <stdio.h>
#include <string.h>

#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/score.h"
#include "launch/text.h"
#include "runtime/sys.h"

enum { SIDES = 2 };

typedef struct compare_side {
    const char *attention;
    double loss; /* nats a token of the tail */
    double decode_s;
    launch_text answer;
    radar_session_stats stats;
} compare_side;

typedef struct compare_state {
    launch_prompt text, question;
    int64_t base, made;
    double prefill_s;
    compare_side side[SIDES];
} compare_state;

static radar_status open_question(launch_job *job, launch_prompt *p) {
    const char *text = job->opt->question;
    if (text == NULL || text[0] == 0) return RADAR_OK;
    int32_t *token = NULL;
    size_t n = 0;
    if (job->world->rank == 0) {
        const int flags = job->opt->no_special ? 0 : RADAR_TEXT_SPECIAL;
        const radar_status st = radar_tokenize(job->engine, text, strlen(text), flags, &token, &n);
        if (st != RADAR_OK) launch_library_failed(job, st);
    }
    const radar_status st = launch_prompt_share(job, p, token, n);
    radar_release(token);
    return st;
}

static radar_status open_all(launch_job *job, compare_state *c) {
    int64_t context = 0;
    radar_status st = launch_prompt_open(job, &c->text);
    if (st == RADAR_OK) st = open_question(job, &c->question);
    if (st != RADAR_OK) return st;
    const int64_t n = (int64_t)c->text.n;
    c->base = n - job->opt->tail;
    c->made = job->opt->n;
    if (c->base < 1)
        return radar_fail(
            &job->err, RADAR_ERR_DATA,
            "the text has %lld tokens, --tail takes %lld: give a longer text or a shorter tail",
            (long long)n, (long long)job->opt->tail);
    st = launch_context(job, n + (int64_t)c->question.n + c->made, 0, &context);
    return st == RADAR_OK ? launch_open_session(job, context) : st;
}

static radar_status score_tail(launch_job *job, const compare_state *c, compare_side *side) {
    launch_score score;
    const int64_t n = (int64_t)c->text.n;
    radar_status st = launch_score_rows(job, c->text.token, c->base, n - 1, NULL, NULL, &score);
    if (st != RADAR_OK) return st;
    side->loss = score.nll / (double)(n - 1 - c->base);
    st = radar_score(job->session, c->text.token + n - 1, 1, NULL);
    if (st == RADAR_OK && c->question.n > 0)
        st = radar_score(job->session, c->question.token, c->question.n, NULL);
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

/* Decodes past the end of the answer, so that the time of a step is a mean of many; shows what comes before it. */
static radar_status answer(launch_job *job, const compare_state *c, compare_side *side) {
    bool ended = false;
    size_t fresh;
    if (job->world->rank == 0) launch_text_open(job, &side->answer, c->text.token[c->text.n - 1]);
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    const double began = radar_clock();
    for (int64_t i = 0; i < c->made; i++) {
        int32_t token = 0;
        const radar_status st = radar_step(job->session, &token);
        if (st != RADAR_OK) return launch_library_failed(job, st);
        ended = ended || radar_is_eos(job->engine, token);
        if (!ended && launch_text_push(job, &side->answer, token, &fresh) != RADAR_OK)
            job->stop = true;
        launch_progress_show(&job->progress, side->attention, i + 1, c->made);
    }
    side->decode_s = radar_clock() - began;
    launch_text_end(job, &side->answer, &fresh);
    return launch_agree(job);
}

static radar_status run_side(launch_job *job, const compare_state *c, compare_side *side) {
    radar_status st = radar_rewind(job->session, c->base);
    if (st == RADAR_OK) st = radar_session_set_attention(job->session, side->attention);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    if ((st = score_tail(job, c, side)) != RADAR_OK) return st;
    if ((st = answer(job, c, side)) != RADAR_OK) return st;
    return launch_stats(job, &side->stats);
}

/* ---- the result ---- */

static double largest(const uint64_t *bytes, int n) {
    uint64_t most = 0;
    for (int i = 0; i < n; i++)
        if (bytes[i] > most) most = bytes[i];
    return (double)most;
}

static double rate(const compare_state *c, const compare_side *side) {
    return c->made > 1 ? (double)(c->made - 1) / side->decode_s : 0;
}

/* The first line of the answer, for a table. */
static void first_line(char *line, size_t room, const launch_text *t) {
    size_t n = 0;
    while (n < t->used && n + 4 < room && t->data[n] != '\n') n++;
    while (n > 0 && n < t->used && ((unsigned char)t->data[n] & 0xC0) == 0x80)
        n--; /* not inside a character */
    memcpy(line, t->data != NULL ? t->data : "", n);
    line[n] = 0;
}

static void print_answers(const compare_state *c) {
    char line[100];
    for (int i = 0; i < SIDES; i++) {
        first_line(line, sizeof line, &c->side[i].answer);
        printf("answer, %-9s                  %s\n", c->side[i].attention, line);
    }
}

static radar_status print_table(launch_job *job, const compare_state *c) {
    const compare_side *a = &c->side[0], *b = &c->side[1];
    launch_progress_clear(&job->progress);
    printf("%zu tokens of text, %lld prefilled once in %.1f s on %d rank%s\n", c->text.n,
           (long long)c->base, c->prefill_s, a->stats.ranks, a->stats.ranks > 1 ? "s" : "");
    printf("%-34s%12s%12s\n", "", a->attention, b->attention);
    printf("%-34s%12.1f%12.1f\n", "decode, tokens/s", rate(c, a), rate(c, b));
    printf("%-34s%12.0f%12.0f\n", "tokens read per step", a->stats.attended_tokens_mean,
           b->stats.attended_tokens_mean);
    printf("%-34s%12.1f%12.1f\n", "KV per rank, MB",
           1e-6 * largest(a->stats.kv_bytes, a->stats.ranks),
           1e-6 * largest(b->stats.kv_bytes, b->stats.ranks));
    printf("%-34s%12.1f%12s\n", "summaries per rank, MB",
           1e-6 * largest(a->stats.summary_bytes, a->stats.ranks), "-");
    printf("%-34s%12.4f%12.4f\n", "coverage of the softmax mass", a->stats.coverage_mean,
           b->stats.coverage_mean);
    char label[64];
    snprintf(label, sizeof label, "loss of the next %lld, nats/token",
             (long long)job->opt->tail - 1);
    printf("%-34s%12.4f%12.4f\n", label, a->loss, b->loss);
    print_answers(c);
    if (fflush(stdout) != 0 || ferror(stdout))
        return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
    return RADAR_OK;
}

static json_t *side_object(launch_json *outer, const compare_state *c, const compare_side *side) {
    launch_json j = launch_json_open();
    launch_json_text(&j, "attention", side->attention, strlen(side->attention));
    launch_json_real(&j, "decode_s", side->decode_s);
    launch_json_real(&j, "decode_tokens_per_s", rate(c, side));
    launch_json_real(&j, "nll_mean", side->loss);
    launch_json_text(&j, "answer", side->answer.data, side->answer.used);
    launch_json_stats(&j, &side->stats);
    outer->failed = outer->failed || j.failed;
    return j.object;
}

static radar_status print_json(launch_job *job, const compare_state *c) {
    launch_json j = launch_json_open();
    json_t *sides = json_array();
    launch_json_int(&j, "prompt_tokens", (int64_t)c->text.n);
    launch_json_int(&j, "prefilled_tokens", c->base);
    launch_json_int(&j, "question_tokens", (int64_t)c->question.n);
    launch_json_int(&j, "scored_tokens", job->opt->tail - 1);
    launch_json_int(&j, "decoded_tokens", c->made);
    launch_json_real(&j, "prefill_s", c->prefill_s);
    for (int i = 0; i < SIDES; i++)
        if (json_array_append_new(sides, side_object(&j, c, &c->side[i])) != 0) j.failed = true;
    launch_json_set(&j, "sides", sides);
    return launch_json_print(job, &j);
}

radar_status launch_compare(launch_job *job) {
    compare_state c = {.side = {{.attention = job->opt->attention}, {.attention = "dense"}}};
    radar_status st = open_all(job, &c);
    if (st == RADAR_OK) {
        const double began = radar_clock();
        st = radar_prefill(job->session, c.text.token, (size_t)c.base);
        c.prefill_s = radar_clock() - began;
        if (st != RADAR_OK) launch_library_failed(job, st);
    }
    for (int i = 0; i < SIDES && st == RADAR_OK; i++) st = run_side(job, &c, &c.side[i]);
    if (st == RADAR_OK && job->world->rank == 0)
        job->opt->json ? print_json(job, &c) : print_table(job, &c);
    for (int i = 0; i < SIDES; i++) launch_text_close(&c.side[i].answer);
    launch_prompt_free(&c.question);
    launch_prompt_free(&c.text);
    return job->err.status;
}
