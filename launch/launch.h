/* launch.h - what the subcommands share: the ranks they run on, one job's options and errors, its engine and prompt.
 *
 * A job fails on all ranks together: a rank with trouble of its own (a prompt it cannot read, a full disk) notes it in job->err, asks
 * the library to stop at the next step, and the ranks agree on the worst status where they meet.  The rank that has the words prints them. */
#ifndef RADAR_LAUNCH_H
#define RADAR_LAUNCH_H

#include <signal.h>

#include "launch/args.h"
#include "launch/progress.h"
#include "runtime/base.h"
#include "runtime/radar.h"

/* The ranks of this job.  world.c fills it; nobody but world_mpi.c knows MPI. */
typedef struct launch_world launch_world;
struct launch_world {
    int rank, size;
    radar_mpi_comm comm;                 /* all ranks */
    radar_mpi_comm alone;                /* this rank by itself, without MPI */
    volatile const sig_atomic_t *signal; /* nonzero: the signal that asks this rank to stop */
    double started;                      /* radar_clock at the start of the process */
    int neighbours;                      /* ranks of this machine, this one too */
    int cores; /* threads of this rank unless typed: the cores it is bound to, shared with ranks bound to the same */
    /* [this rank] Ends the job on all ranks, with this code; NULL: there are no others. */
    void (*end)(int code);
    /* [all ranks] data of rank 0 to all. */
    void (*broadcast)(const launch_world *w, void *data, size_t bytes);
    /* [all ranks] the largest value of all, and the lowest rank that brought it. */
    void (*largest)(const launch_world *w, int *value, int *rank);
    void (*close)(launch_world *w);
};

typedef struct launch_job {
    const launch_world *world;
    const launch_options *opt;
    launch_progress progress;
    radar_error err;
    bool stop; /* this rank asks all ranks to stop: its own error is in err */
    radar_engine *engine;
    radar_session *session;
    radar_model_info info;
    const radar_session_options *room; /* the largest session there will be; NULL: not known */
    bool warned_context;               /* once a job */
    struct json_t *profile;            /* --profile; values of options point into it */
    uint64_t profile_model;            /* the fingerprint it names */
} launch_job;

typedef radar_status launch_command_fn(launch_job *job);
launch_command_fn launch_run, launch_eval, launch_compare, launch_bench; /* [all ranks] */
launch_command_fn launch_tokenize, launch_detokenize, launch_inspect, launch_plan,
    launch_report; /* rank 0 alone, without an exchange */

/* ---- job.c ---- */

/* [all ranks] Leaves with the worst status of all ranks in job->err; a rank that had none of its own gets it without text.
 * With RADAR_ERR_PEER a rank does not come back: the others may wait for it where it will never be, and the job ends. */
radar_status launch_agree(launch_job *job);
/* [this rank] The words of job->err on stderr, if it has any. */
void launch_print_error(launch_job *job);
/* [all ranks] All ranks were started with the same options, else RADAR_ERR_DISAGREE naming the first that differs. */
radar_status launch_same_options(launch_job *job);
/* [this rank] Notes the library's last error under st and asks the other ranks to stop too.  Returns st. */
radar_status launch_library_failed(launch_job *job, radar_status st);
/* [all ranks, or rank 0 alone when alone is true] Opens the model into job->engine and fills job->info. */
radar_status launch_open_engine(launch_job *job, bool alone);
/* [this rank] What the library is told of an engine. */
radar_engine_options launch_engine_options(launch_job *job);
/* [this rank] What the library is told of a session with room for context tokens. */
radar_session_options launch_session_options(const launch_options *o, int64_t context);
/* [all ranks] Opens job->session with room for context tokens. */
radar_status launch_open_session(launch_job *job, int64_t context);
/* [this rank] Tokens of capacity for a job of `prompt` tokens that wants `more`: --ctx, else what it needs and the model can. */
radar_status launch_context(launch_job *job, int64_t prompt, int64_t more, int64_t *context);
/* [all ranks] Statistics, with their size set. */
radar_status launch_stats(launch_job *job, radar_session_stats *stats);
void launch_close(launch_job *job); /* [all ranks] session and engine */

/* ---- warn.c: one line on stderr each, of rank 0, where --quiet does not forbid it ---- */

/* [this rank] A context past what the model is made for, under the scaling it has. */
void launch_warn_context(launch_job *job, int64_t context);
/* [this rank] More threads than cores. */
void launch_warn_threads(launch_job *job, int threads);
/* The least whole --rope-scale that reaches context. */
int64_t launch_rope_scale(const radar_model_info *model, int64_t context);

#endif
