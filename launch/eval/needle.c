#include "launch/eval/needle.h"

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
    eval_facts *f;
    eval_wrap wrap; /* rank 0 */
} needle_state;

/* The i-th of a text's facts: names are different within a text, up to 36 x 28 of them. */
static void make_fact(const needle_state *e, int text, int i, char name[NAME], int *code) {
    const uint64_t seed = e->c->setting.seed;
    const uint64_t turn = radar_random(seed, STREAM, (uint64_t)text) % FIRST;
    const char *first = first_name[(turn + (uint64_t)i) % FIRST];
    if (e->f->depths <= FIRST)
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
    const int64_t room = e->f->length - eval_draft_other(d, &e->wrap);
    return eval_fill(d, &e->wrap, whole->token + skip, n, text * e->f->length % radar_max64(n, 1),
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
    eval_facts *f = e->f;
    radar_status st = eval_task_prefill(c, t);
    f->prefill_s += c->prefill_s;
    const double began = radar_clock();
    for (int i = 0; i < t->n_probes && st == RADAR_OK; i++) {
        eval_result r;
        st = eval_task_ask(c, t, i, &r);
        if (st != RADAR_OK) break;
        f->fact[f->asked++] = (eval_fact){.depth = depth_of(i, t->n_probes),
                                          .nll = r.nll / DIGITS,
                                          .exact = r.found == r.references};
        launch_progress_show(&c->job->progress, "needle", f->asked, f->questions);
    }
    f->seconds += radar_clock() - began;
    return st == RADAR_OK ? eval_figures_add(c, &f->figures) : st;
}

static radar_status run_text(needle_state *e, int text) {
    launch_job *job = e->c->job;
    const int left = e->f->questions - text * e->f->depths,
              facts = left < e->f->depths ? left : e->f->depths;
    eval_draft d = {.job = job};
    eval_task t;
    if (job->world->rank == 0) make_text(e, &d, text, facts);
    radar_status st = eval_task_share(job, &t, &d);
    eval_draft_close(&d);
    if (st == RADAR_OK) st = ask_all(e, &t);
    eval_task_free(&t);
    return st;
}

radar_status eval_facts_ask(eval_context *c, eval_facts *f) {
    launch_job *job = c->job;
    needle_state e = {c, f, {0}};
    f->fact = radar_alloc_array((size_t)f->questions, sizeof *f->fact);
    if (f->fact == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %d questions", f->questions);
    else if (job->world->rank == 0)
        eval_wrap_open(job, &e.wrap);
    f->chat = e.wrap.chat;
    radar_status st = launch_agree(job);
    for (int text = 0; st == RADAR_OK && text * f->depths < f->questions; text++)
        st = run_text(&e, text);
    eval_wrap_close(&e.wrap);
    return st;
}

void eval_facts_free(eval_facts *f) {
    radar_free(f->fact);
    f->fact = NULL;
}
