/* radar eval needle: facts hidden in a text at equal distances, asked for one by one: loss of the answer's digits by depth and length. */
#include <math.h>
#include <string.h>

#include "launch/eval/task.h"
#include "runtime/sys.h"

enum { DIGITS = 5, NAME = 48, STREAM = 64 };

static const char *const first_name[] = {
    "Alice", "Boris", "Clara", "David",  "Elena",  "Felix", "Grace", "Henry",   "Irene",
    "Jonas", "Karin", "Louis", "Martha", "Nils",   "Olga",  "Peter", "Quentin", "Rosa",
    "Simon", "Tessa", "Ulric", "Vera",   "Walter", "Xenia", "Yusuf", "Zelda",   "Bruno",
    "Celia", "Dario", "Edith", "Frank",  "Gilda",  "Hugo",  "Ilse",  "Jorge",   "Kirsten"};
static const char *const last_name[] = {
    "Adler", "Brook", "Cross", "Dale",  "Eden",   "Field", "Glenn", "Hart", "Ives",  "Jarvis",
    "Knox",  "Lane",  "Marsh", "North", "Oakes",  "Price", "Quinn", "Reed", "Stone", "Tate",
    "Usher", "Vale",  "Wood",  "Yates", "Zimmer", "Birch", "Cole",  "Drake"};
enum {
    FIRST = sizeof first_name / sizeof *first_name,
    LAST = sizeof last_name / sizeof *last_name
};

typedef struct needle_state {
    eval_context *c;
    int64_t length;
    int depths, questions, asked;
    eval_wrap wrap; /* rank 0 */
    double *nll;    /* [questions] per digit */
    json_t *grid;
    int exact;
    eval_figures figures;
    double prefill_s, seconds;
} needle_state;

/* The i-th of a text's facts: names are different within a text, up to 36 x 28 of them. */
static void make_fact(const needle_state *e, int text, int i, char name[NAME], int *code) {
    const uint64_t seed = e->c->setting.seed;
    const uint64_t turn = radar_random(seed, STREAM, (uint64_t)text) % FIRST;
    const char *first = first_name[(turn + (uint64_t)i) % FIRST];
    if (e->depths <= FIRST)
        snprintf(name, NAME, "%s", first);
    else
        snprintf(name, NAME, "%s %s", first, last_name[i / FIRST % LAST]);
    *code =
        10000 + (int)(radar_random(seed, STREAM + 1, (uint64_t)text << 16 | (uint64_t)i) % 90000);
}

static double depth_of(int i, int facts) { return (i + 0.5) / facts; }

/* ---- one text [rank 0] ---- */

static radar_status make_probe(const needle_state *e, eval_draft *d, const char *name, int code) {
    char question[128], lead[128], answer[16];
    snprintf(question, sizeof question, "What is the secret code of %s?", name);
    snprintf(lead, sizeof lead, "The secret code of %s is", name);
    snprintf(answer, sizeof answer, " %d", code);
    radar_status st = eval_ask(d, &e->wrap, question, lead);
    if (st == RADAR_OK) st = eval_answer(d, answer, 0);
    return st == RADAR_OK ? eval_end_probe(d) : st;
}

/* The filler without the token that begins a text; each text goes on where the one before it ended. */
static radar_status fill(const needle_state *e, eval_draft *d, int text, eval_insert *insert,
                         int facts) {
    const launch_prompt *whole = &e->c->whole;
    const int skip = whole->token[0] == e->wrap.beginning;
    const int64_t n = (int64_t)whole->n - skip;
    const int64_t room = e->length - eval_draft_other(d, &e->wrap);
    return eval_fill(d, &e->wrap, whole->token + skip, n, text * e->length % radar_max64(n, 1),
                     room, insert, facts);
}

static radar_status make_text(const needle_state *e, eval_draft *d, int text, int facts) {
    launch_job *job = e->c->job;
    eval_insert *insert = radar_alloc_array((size_t)facts, sizeof *insert);
    if (insert == NULL) return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for facts");
    radar_status st = RADAR_OK;
    for (int i = 0; i < facts && st == RADAR_OK; i++) {
        char name[NAME], line[128];
        int code;
        make_fact(e, text, i, name, &code);
        snprintf(line, sizeof line, "The secret code of %s is %d.\n", name, code);
        insert[i].depth = depth_of(i, facts);
        st = eval_add_text(job, &insert[i].line, line);
        if (st == RADAR_OK) st = make_probe(e, d, name, code);
    }
    if (st == RADAR_OK) st = fill(e, d, text, insert, facts);
    for (int i = 0; i < facts; i++) radar_free(insert[i].line.token);
    radar_free(insert);
    return st;
}

/* ---- asking ---- */

static radar_status ask_all(needle_state *e, const eval_task *t) {
    eval_context *c = e->c;
    radar_status st = eval_task_prefill(c, t);
    e->prefill_s += c->prefill_s;
    const double began = radar_clock();
    for (int i = 0; i < t->n_probes && st == RADAR_OK; i++) {
        eval_result r;
        st = eval_task_ask(c, t, i, &r);
        if (st != RADAR_OK) break;
        e->nll[e->asked] = r.nll / DIGITS;
        const bool exact = r.found == r.references;
        e->exact += exact;
        json_array_append_new(
            e->grid, json_pack("[f,f,i]", depth_of(i, t->n_probes), e->nll[e->asked], (int)exact));
        e->asked++;
        launch_report_progress(&c->job->report, "needle", e->asked, e->questions);
    }
    e->seconds += radar_clock() - began;
    return st == RADAR_OK ? eval_figures_add(c, &e->figures) : st;
}

static radar_status run_text(needle_state *e, int text) {
    launch_job *job = e->c->job;
    const int left = e->questions - text * e->depths, facts = left < e->depths ? left : e->depths;
    eval_draft d = {.job = job};
    eval_task t;
    if (job->world->rank == 0) make_text(e, &d, text, facts);
    radar_status st = eval_task_share(job, &t, &d);
    eval_draft_close(&d);
    if (st == RADAR_OK) st = ask_all(e, &t);
    eval_task_free(&t);
    return st;
}

/* ---- the row ---- */

static launch_json make_row(const needle_state *e) {
    double mean, se;
    eval_mean(e->nll, e->asked, &mean, &se);
    launch_json j = eval_row(e->c, "");
    launch_json_int(&j, "tokens", e->length);
    launch_json_int(&j, "questions", e->asked);
    launch_json_int(&j, "depths", e->depths);
    launch_json_real(&j, "nll_per_digit", mean);
    launch_json_real(&j, "nll_se", se);
    launch_json_real(&j, "exact", (double)e->exact / e->asked);
    launch_json_set(&j, "chat", json_boolean(e->wrap.chat));
    eval_row_figures(&j, &e->figures);
    launch_json_real(&j, "prefill_s", e->prefill_s);
    launch_json_real(&j, "seconds", e->seconds);
    launch_json_set(&j, "grid", json_incref(e->grid));
    return j;
}

static radar_status open_all(needle_state *e) {
    eval_context *c = e->c;
    const launch_options *o = &c->setting;
    e->length = o->length != LAUNCH_UNSET ? o->length
                                          : radar_min64((int64_t)c->whole.n, c->job->info.context);
    e->depths = (int)o->depths;
    e->questions = o->questions != LAUNCH_UNSET ? (int)o->questions : e->depths;
    e->nll = radar_alloc_array((size_t)e->questions, sizeof *e->nll);
    e->grid = json_array();
    if (e->nll == NULL || e->grid == NULL)
        radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for %d questions", e->questions);
    if (c->job->world->rank == 0 && c->job->err.status == RADAR_OK)
        eval_wrap_open(c->job, &e->wrap);
    const int64_t wanted = radar_ceil_div(e->questions, e->depths) * e->length;
    if (wanted > (int64_t)c->whole.n)
        launch_report_line(&c->job->report,
                           "note: %s has %zu tokens, %lld are wanted: it is repeated", c->text_name,
                           c->whole.n, (long long)wanted);
    return launch_agree(c->job);
}

static radar_status run_needle(eval_context *c) {
    needle_state e = {.c = c};
    if (!eval_wanted(c, "")) return RADAR_OK;
    radar_status st = open_all(&e);
    for (int text = 0; st == RADAR_OK && text * e.depths < e.questions; text++)
        st = run_text(&e, text);
    if (st == RADAR_OK) {
        launch_json row = c->job->world->rank == 0 ? make_row(&e) : (launch_json){0};
        st = eval_emit(c, &row);
    }
    eval_wrap_close(&e.wrap);
    json_decref(e.grid);
    radar_free(e.nll);
    return st;
}

static const char *const columns[] = {
    "tokens", "questions", "nll_per_digit", "nll_se", "exact", "attended_tokens_mean", NULL};

const eval_kind eval_needle = {.name = "needle",
                               .needs_text = true,
                               .makes_text = true,
                               .run = run_needle,
                               .columns = columns};
