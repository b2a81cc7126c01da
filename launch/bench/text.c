/* The text behind a depth: given as a file, or the one of the demo, which the program carries with it. */
#include <string.h>

#include "launch/bench/bench.h"
#include "runtime/sys.h"

/* launch/demo/text.txt, as the assembler finds it from the repository's root. */
__asm__(".pushsection .rodata\n"
        ".global launch_bench_text, launch_bench_text_end\n"
        "launch_bench_text: .incbin \"launch/demo/text.txt\"\n"
        "launch_bench_text_end: .byte 0\n"
        ".popsection\n");
extern const char launch_bench_text[], launch_bench_text_end[];

static bool ends_in(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static radar_status own_text(launch_job *job, launch_input *in) {
    *in = (launch_input){.name = "the program's own text (another: --fill-from FILE)"};
    in->bytes = (size_t)(launch_bench_text_end - launch_bench_text);
    in->text = radar_alloc(in->bytes);
    if (in->text == NULL)
        return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %zu bytes of text",
                          in->bytes);
    memcpy(in->text, launch_bench_text, in->bytes);
    return RADAR_OK;
}

/* [rank 0] */
static radar_status read_text(bench *b, const char *path, launch_input *in) {
    launch_job *job = b->job;
    const bool ids = path != NULL && (ends_in(path, ".json") || ends_in(path, ".u32"));
    if (path == NULL) return own_text(job, in);
    launch_options with = *job->opt;
    const launch_options *given = job->opt;
    with.file = ids ? NULL : path;
    with.ids = ids ? path : NULL;
    job->opt = &with;
    const radar_status st = launch_input_read(job, in);
    job->opt = given;
    return st;
}

radar_status bench_text(bench *b) {
    launch_job *job = b->job;
    launch_input in = {0};
    const char *path = b->fill == BENCH_FILL_TEXT ? b->base.fill : b->base.fill_from;
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    b->text_name = path == NULL ? "own" : slash != NULL ? slash + 1 : path;
    if (job->world->rank == 0 && read_text(b, path, &in) == RADAR_OK)
        launch_input_tokenize(job, &in);
    const radar_status st = launch_prompt_share(job, &b->text, in.ids, in.n);
    launch_input_free(&in);
    return st;
}
