/* What is allowed, and seldom meant. */
#include <unistd.h>

#include "launch/launch.h"
#include "runtime/sys.h"

int64_t launch_rope_scale(const radar_model_info *model, int64_t context) {
    return radar_ceil_div(context, radar_max64(model->unscaled_context, 1));
}

void launch_warn_context(launch_job *job, int64_t context) {
    const radar_model_info *m = &job->info;
    if (job->warned_context || context <= m->context) return;
    job->warned_context = true;
    launch_progress_line(
        &job->progress,
        "warning: %lld tokens are past the %lld that the model is made for%s%s: add "
        "--rope-scaling yarn --rope-scale %lld",
        (long long)context, (long long)m->context,
        m->context > m->unscaled_context ? " under rope scaling " : "",
        m->context > m->unscaled_context ? m->rope_scaling : "",
        (long long)launch_rope_scale(m, context));
}

void launch_warn_threads(launch_job *job, int threads) {
    const launch_world *w = job->world;
    const int own = radar_cores(), ranks = w->neighbours > 1 ? w->neighbours : 1;
    const long machine = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads > own)
        launch_progress_line(&job->progress,
                             "warning: %d threads on %d core%s that this rank may use: they wait "
                             "for each other; use -t %d",
                             threads, own, own > 1 ? "s" : "", w->cores);
    else if (machine > 0 && (long)threads * ranks > machine)
        launch_progress_line(&job->progress,
                             "warning: %d ranks of %d thread%s on this machine's %ld cores: they "
                             "wait for each other; use fewer ranks or -t %d",
                             ranks, threads, threads > 1 ? "s" : "", machine, w->cores);
}
