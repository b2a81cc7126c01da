/* The queue of device commands, with a runtime whose device is this process: what runs when, what is replayed, and what a failure says. */
#include "tests/simt/fake/fake.h"
#include "tests/simt/dev.h"

#include <csetjmp> /* what cmocka.h needs */
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>

#include "kernels/cuda/device.h"
}

/* x[i] := x[i] * p[0] + p[1]: its own order shows in the result. */
KERNEL void __global__ step(float *x, const float *p, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = x[i] * p[0] + p[1];
}
struct padded {
    char times;
    double plus;
};
KERNEL void __global__ step_by(float *x, padded p) {
    if (threadIdx.x == 0) x[0] = x[0] * (float)p.times + (float)p.plus;
}
KERNEL void __global__ step_shared(float *x) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = x[threadIdx.x];
    dev_block_sync();
    x[threadIdx.x] = s[(threadIdx.x + 1) % blockDim.x];
}

static radar_cuda_queue *opened(bool graphs, size_t bytes) {
    const radar_cuda_queue_options opt = {0, graphs, bytes};
    radar_error err = {};
    radar_cuda_queue *q = nullptr;
    const radar_status st = radar_cuda_queue_open(&q, &opt, &err);
    if (st != RADAR_OK) fail_msg("%s", err.text);
    return q;
}

static void waited(radar_cuda_queue *q) {
    radar_error err = {};
    if (radar_cuda_wait(q, &err) != RADAR_OK) fail_msg("%s", err.text);
}

static void queue_step(radar_cuda_queue *q, float *x, float times, float plus, int n = 1) {
    const float p[2] = {times, plus};
    const float *const at = static_cast<float *>(radar_cuda_put(q, p, sizeof p, 0));
    assert_int_equal(LAUNCH(step, dim3((unsigned)(n + 63) / 64), dim3(64), 0, q, x, at, n), 0);
}

static float first_of(radar_cuda_queue *q, const float *x) {
    float got = -1;
    radar_cuda_fetch(q, &got, x, sizeof got);
    waited(q);
    return got;
}

/* ---- order ---- */

static void commands_run_in_order_when_waited_for(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, 100 * sizeof *x));
    float *const y = static_cast<float *>(radar_cuda_alloc(q, 100 * sizeof *y));
    const float three = 3;
    float got = -1, zero = -1;
    radar_cuda_upload(q, x, &three, sizeof three);
    queue_step(q, x, 2, 1, 100); /* 7 */
    radar_cuda_copy(q, y, x, 100 * sizeof *x);
    queue_step(q, x, 10, 0, 100);
    radar_cuda_fetch(q, &got, y, sizeof got);
    radar_cuda_clear(q, y, sizeof *y);
    radar_cuda_fetch(q, &zero, y, sizeof zero);
    assert_int_equal(fake_cuda_count().kernels, 0);
    assert_true(got == -1.0f);
    waited(q);
    assert_true(got == 7.0f);
    assert_true(zero == 0.0f);
    assert_true(first_of(q, x) == 70.0f);
    assert_true(first_of(q, y + 1) == 1.0f); /* new memory is zero: 0 * 2 + 1 */
    radar_cuda_release(q, x);
    radar_cuda_release(q, y);
    radar_cuda_queue_close(q);
    assert_int_equal(fake_cuda_count().bytes, 0);
}

static void without_a_queue_a_kernel_is_launched_at_once(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    LAUNCH(step_by, dim3(1), dim3(32), 0, q, x, padded{1, 5});
    waited(q); /* the fake knows the kernel now */
    const radar_cuda_shape shape = {{1, 1, 1}, {32, 1, 1}, 0};
    padded by = {3, 1};
    float *at = x;
    void *const args[] = {&at, &by};
    const size_t bytes[] = {sizeof at, sizeof by};
    assert_int_equal(radar_cuda_launch(nullptr, (const void *)step_by, &shape, args, bytes, 2), 0);
    cudaDeviceSynchronize();
    assert_true(first_of(q, x) == 16.0f);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- graphs ---- */

static void a_list_that_comes_again_is_one_launch(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    float got = 0, want = 0;
    for (int turn = 0; turn < 5; turn++) {
        const fake_cuda_counts before = fake_cuda_count();
        for (int i = 0; i < 10; i++) {
            queue_step(q, x, 1, (float)(turn + i)); /* other numbers, the same list */
            want += (float)(turn + i);
        }
        radar_cuda_fetch(q, &got, x, sizeof got);
        waited(q);
        assert_true(got == want);
        const fake_cuda_counts now = fake_cuda_count();
        assert_int_equal(now.launches - before.launches, turn == 0 ? 10 : 0);
        assert_int_equal(now.captures - before.captures, turn == 1);
        assert_int_equal(now.graph_launches - before.graph_launches, turn > 0);
        assert_int_equal(now.kernels - before.kernels, 10);
        assert_int_equal(now.waits - before.waits, 1);
    }
    const radar_cuda_queue_stats s = radar_cuda_queue_stats_of(q);
    assert_int_equal(s.waits, 5);
    assert_int_equal(s.commands, 5 * 11);
    assert_int_equal(s.direct, 11);
    assert_int_equal(s.captures, 1);
    assert_int_equal(s.graph_launches, 4);
    assert_int_equal(s.parameter_bytes, 5 * 4096);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void what_lies_between_members_does_not_matter(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 8; i++) {
            padded by;
            memset(&by, turn, sizeof by);
            by.times = 1;
            by.plus = 2;
            LAUNCH(step_by, dim3(1), dim3(32), 0, q, x, by);
        }
        waited(q);
    }
    assert_int_equal(fake_cuda_count().graph_launches, 2);
    assert_true(first_of(q, x) == 48.0f);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void short_lists_and_no_graphs_are_issued(void **) {
    for (int graphs = 0; graphs < 2; graphs++) {
        fake_cuda_reset("");
        radar_cuda_queue *const q = opened(graphs, 0);
        float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
        for (int turn = 0; turn < 3; turn++) {
            for (int i = 0; i < (graphs ? 3 : 20); i++) queue_step(q, x, 1, 1);
            waited(q);
        }
        assert_int_equal(fake_cuda_count().graph_launches, 0);
        assert_true(first_of(q, x) == (graphs ? 9.0f : 60.0f));
        radar_cuda_release(q, x);
        radar_cuda_queue_close(q);
    }
}

static void graphs_unused_for_longest_go(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, 128 * sizeof *x));
    const auto pass = [&](int list) {
        for (int i = 0; i < 8; i++) queue_step(q, x + list, 1, 1);
        waited(q);
    };
    for (int list = 0; list < 65; list++) {
        pass(list);
        pass(list);
        if (list > 0) pass(0); /* stays in use: captured at its own turn */
    }
    assert_int_equal(fake_cuda_count().captures, 65);
    pass(0); /* kept */
    pass(64);
    assert_int_equal(fake_cuda_count().captures, 65);
    pass(1); /* went for the 65th; seen before, so captured at once */
    assert_int_equal(fake_cuda_count().captures, 66);
    assert_true(first_of(q, x + 1) == 24.0f);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- parameters ---- */

static void parameters_beyond_the_block_stay_right(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 4096); /* 16 places */
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    for (int turn = 0; turn < 4; turn++) {
        radar_cuda_clear(q, x, sizeof *x);
        float want = 0;
        for (int i = 0; i < 100; i++) {
            const float a[2] = {1, (float)i}, b[2] = {1, (float)(i + turn)};
            const float *const at_a = static_cast<float *>(radar_cuda_put(q, a, sizeof a, 0));
            const float *const at_b = static_cast<float *>(radar_cuda_put(q, b, sizeof b, 0));
            LAUNCH(step, dim3(1), dim3(32), 0, q, x, at_b, 1); /* a was put before b ran out */
            LAUNCH(step, dim3(1), dim3(32), 0, q, x, at_a, 1);
            want += a[1] + b[1];
        }
        assert_true(first_of(q, x) == want);
    }
    assert_true(fake_cuda_count().graph_launches > 0);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void what_was_put_before_the_block_ran_out_is_copied(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 4096);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    const float p[2] = {0, 5};
    const std::vector<float> much(1024, 1.0f);
    const float *const at = static_cast<float *>(radar_cuda_put(q, p, sizeof p, 0));
    radar_cuda_put(q, much.data(), 4096, 0); /* no command yet that would have copied p */
    LAUNCH(step, dim3(1), dim3(32), 0, q, x, at, 1);
    assert_true(first_of(q, x) == 5.0f);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void a_parameter_larger_than_the_block_makes_it_grow(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 4096);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    std::vector<float> large(5000, 1.0f);
    for (int turn = 0; turn < 3; turn++) {
        queue_step(q, x, 0, 1);
        const float *const at =
            static_cast<float *>(radar_cuda_put(q, large.data(), large.size() * sizeof(float), 0));
        LAUNCH(step, dim3(1), dim3(32), 0, q, x, at + 4998, 1);
        queue_step(q, x, 10, 0);
        assert_true(first_of(q, x) == 20.0f);
    }
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void room_keeps_what_comes_after_in_place(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    const char bytes[300] = {};
    char *const a = static_cast<char *>(radar_cuda_put(q, bytes, 1, 600));
    char *const b = static_cast<char *>(radar_cuda_put(q, bytes, 300, 0));
    char *const c = static_cast<char *>(radar_cuda_put(q, bytes, 1, 0));
    assert_int_equal(b - a, 768);
    assert_int_equal(c - b, 512);
    waited(q);
    assert_ptr_equal(radar_cuda_put(q, bytes, 1, 0), a);
    radar_cuda_queue_close(q);
}

/* ---- to the device and back ---- */

static void small_and_large_transfers_arrive(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    for (size_t n :
         {(size_t)1, (size_t)1000, (size_t)1 << 20, ((size_t)1 << 20) + 1, (size_t)9 << 20}) {
        std::vector<unsigned char> sent(n), got(n);
        for (size_t i = 0; i < n; i++) sent[i] = (unsigned char)(i * 7 + n);
        void *const x = radar_cuda_alloc(q, n), *const y = radar_cuda_alloc(q, n);
        radar_cuda_clear(q, x, n); /* before, whatever the size */
        radar_cuda_upload(q, x, sent.data(), n);
        const std::vector<unsigned char> kept = sent;
        std::fill(sent.begin(), sent.end(), 0); /* was read */
        radar_cuda_copy(q, y, x, n);
        radar_cuda_fetch(q, got.data(), y, n);
        waited(q);
        assert_true(got == kept);
        radar_cuda_release(q, x);
        radar_cuda_release(q, y);
    }
    radar_cuda_queue_close(q);
}

static void fetches_beyond_the_landing_block_arrive(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    const size_t n = 200000; /* floats: 6 of them are more than 4 MiB */
    float *const x = static_cast<float *>(radar_cuda_alloc(q, n * sizeof *x));
    std::vector<std::vector<float>> got(10, std::vector<float>(n));
    for (int i = 0; i < 10; i++) {
        queue_step(q, x, 1, 1, (int)n);
        radar_cuda_fetch(q, got[(size_t)i].data(), x, n * sizeof *x);
    }
    waited(q);
    for (int i = 0; i < 10; i++) {
        assert_true(got[(size_t)i][0] == (float)(i + 1));
        assert_true(got[(size_t)i][n - 1] == (float)(i + 1));
    }
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- the host and libraries between commands ---- */

struct visit {
    radar_cuda_queue *q;
    float *x;
    const float *fetched;
    float want;
    radar_status st;
};
static radar_status look(void *data, radar_error *err) {
    const visit *const v = static_cast<visit *>(data);
    float now = -1;
    assert_int_equal(radar_cuda_read_now(v->q, &now, v->x, sizeof now), 0);
    assert_true(now == v->want && *v->fetched == v->want);
    now *= 100;
    assert_int_equal(radar_cuda_write_now(v->q, v->x, &now, sizeof now), 0);
    return v->st == RADAR_OK ? RADAR_OK : radar_fail(err, v->st, "rank 3 is gone");
}

static void the_host_works_between_pieces(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    for (int turn = 0; turn < 3; turn++) {
        float between = -1, after = -1;
        radar_cuda_clear(q, x, sizeof *x);
        for (int i = 0; i < 9; i++) queue_step(q, x, 1, (float)turn);
        radar_cuda_fetch(q, &between, x, sizeof between);
        const visit v = {q, x, &between, 9.0f * (float)turn, RADAR_OK};
        radar_cuda_host(q, look, &v, sizeof v);
        for (int i = 0; i < 9; i++) queue_step(q, x, 1, 1);
        radar_cuda_fetch(q, &after, x, sizeof after);
        waited(q);
        assert_true(after == 900.0f * (float)turn + 9);
    }
    assert_int_equal(fake_cuda_count().graph_launches, 4); /* two pieces, from the second time on */
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void work_of_the_host_that_fails_ends_the_list(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    float zero = -1;
    radar_error err = {};
    radar_cuda_fetch(q, &zero, x, sizeof zero);
    const visit v = {q, x, &zero, 0, RADAR_ERR_PEER};
    radar_cuda_host(q, look, &v, sizeof v);
    queue_step(q, x, 0, 1);
    assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_PEER);
    assert_string_equal(err.text, "rank 3 is gone");
    assert_true(first_of(q, x) == 0.0f); /* and the queue goes on */
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void double_it(void *data) {
    float *const x = *static_cast<float **>(data);
    *x *= 2;
}
static int calls;
static int library(void *data, void *stream) {
    calls++;
    return fake_cuda_enqueue(static_cast<cudaStream_t>(stream), double_it, data, sizeof(float *));
}
static int refuses(void *, void *) { return 7; }

static void calls_of_a_library_are_captured(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    calls = 0;
    for (int turn = 0; turn < 4; turn++) {
        radar_cuda_clear(q, x, sizeof *x);
        queue_step(q, x, 1, (float)turn);
        for (int i = 0; i < 7; i++) radar_cuda_call(q, "a product", library, &x, sizeof x);
        assert_true(first_of(q, x) == 128.0f * (float)turn);
    }
    assert_int_equal(calls, 14); /* issued, and captured */
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void a_library_that_fails_is_named(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    radar_error err = {};
    radar_cuda_call(q, "cublasGemmEx", refuses, nullptr, 0);
    assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_INTERNAL);
    assert_string_equal(err.text, "GPU 0: cublasGemmEx fails with error 7");
    waited(q);
    radar_cuda_queue_close(q);
}

/* Waits in the middle: a list with it cannot be captured. */
static int waits(void *, void *stream) {
    return cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
}
static void what_cannot_be_captured_is_issued(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 9; i++) queue_step(q, x, 1, 1);
        radar_cuda_call(q, "a wait", waits, nullptr, 0);
        waited(q);
    }
    assert_true(first_of(q, x) == 27.0f);
    assert_int_equal(fake_cuda_count().graph_launches, 0);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- memory ---- */

static void scratch_grows_and_is_zero_when_new(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_scratch(q, 3, 100));
    float *const other = static_cast<float *>(radar_cuda_scratch(q, 4, 100));
    assert_true(x && other && x != other);
    assert_ptr_equal(radar_cuda_scratch(q, 3, 50), x);
    float got = -1;
    queue_step(q, x, 1, 8);
    radar_cuda_fetch(q, &got, x, sizeof got);
    float *const more = static_cast<float *>(radar_cuda_scratch(q, 3, 100000));
    assert_true(got == 8.0f); /* what used the old one has run */
    queue_step(q, more + 24999, 1, 2);
    assert_true(first_of(q, more + 24999) == 2.0f);
    assert_true(first_of(q, other) == 0.0f);
    radar_cuda_queue_close(q);
    assert_int_equal(fake_cuda_count().bytes, 0);
}

static void too_much_memory_is_refused(void **) {
    fake_cuda_reset("memory=100000000");
    radar_cuda_queue *const q = opened(true, 0);
    radar_error err = {};
    assert_null(radar_cuda_alloc(q, 200000000));
    waited(q); /* the caller knows already */
    assert_null(radar_cuda_scratch(q, 0, 200000000));
    assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_MEMORY);
    assert_string_equal(err.text, "GPU 0: scratch memory: out of memory; a shorter context or more "
                                  "GPUs need less of each");
    void *const some = radar_cuda_alloc(q, 50000000);
    assert_non_null(some);
    radar_cuda_release(q, some);
    radar_cuda_queue_close(q);
}

static void shared_memory_is_asked_for_once(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, 64 * sizeof *x));
    radar_error err = {};
    LAUNCH(step_shared, dim3(1), dim3(64), 100 << 10, q, x);
    assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_INTERNAL);
    assert_string_equal(err.text, "GPU 0: step_shared, command 1 of 1: invalid argument");
    assert_int_equal(ALLOW_SHARED(step_shared, 100 << 10), 0);
    assert_int_equal(ALLOW_SHARED(step_shared, 60 << 10), 0); /* takes nothing away */
    LAUNCH(step_shared, dim3(1), dim3(64), 100 << 10, q, x);
    waited(q);
    assert_int_equal(ALLOW_SHARED(step_shared, 228 << 10), cudaErrorInvalidValue);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- failures ---- */

static void refused(const char *faults, int device, const char *line) {
    fake_cuda_reset(faults);
    const radar_cuda_queue_options opt = {device, true, 0};
    radar_error err = {};
    radar_cuda_queue *q = nullptr;
    assert_int_equal(radar_cuda_queue_open(&q, &opt, &err), RADAR_ERR_CONFIG);
    assert_null(q);
    assert_string_equal(err.text, line);
}

static void opening_says_what_is_missing(void **) {
    refused("no-driver", 0, "CUDA: there is no NVIDIA driver; install one, or run on the CPU");
    refused("old-driver", 0,
            "CUDA: the NVIDIA driver is made for CUDA 11.4, this program for 13.0; install a newer "
            "driver");
    refused("devices=0", 0,
            "CUDA: the driver finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the "
            "CPU");
    refused(
        "sm=75", 0,
        "GPU 0: NVIDIA Fake has compute capability 7.5, and 8.0 is the least; take a newer GPU, "
        "or run on the CPU");
    refused("devices=2", 2,
            "GPU 2: this process sees 2, numbered from 0; see nvidia-smi and CUDA_VISIBLE_DEVICES");
    fake_cuda_reset("memory=1000000");
    const radar_cuda_queue_options opt = {0, true, 0};
    radar_error err = {};
    radar_cuda_queue *q = nullptr;
    assert_int_equal(radar_cuda_queue_open(&q, &opt, &err), RADAR_ERR_MEMORY);
    assert_int_equal(fake_cuda_count().bytes, 0);
}

static void a_device_is_described(void **) {
    fake_cuda_reset("devices=2,memory=1000000000,sms=132");
    radar_cuda_device d;
    radar_error err = {};
    int n = 0;
    assert_int_equal(radar_cuda_devices(&n, &err), RADAR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(radar_cuda_device_of(&d, 1, &err), RADAR_OK);
    assert_string_equal(d.name, "NVIDIA Fake");
    assert_string_equal(d.bus, "0000:66:00.0");
    assert_int_equal(d.major * 10 + d.minor, 90);
    assert_int_equal(d.multiprocessors, 132);
    assert_int_equal(d.shared_bytes, 227 << 10);
    assert_int_equal(d.total_bytes, 1000000000);
    assert_int_equal(d.free_bytes, 1000000000);
}

static void a_lost_device_is_said_and_stays_lost(void **) {
    for (int graph = 0; graph < 2; graph++) {
        fake_cuda_reset(graph ? "lost=25" : "lost=4");
        radar_cuda_queue *const q = opened(true, 0);
        float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
        radar_error err = {};
        float got = -1;
        for (int turn = 0; turn < (graph ? 3 : 1); turn++) {
            for (int i = 0; i < 10; i++) queue_step(q, x, 1, 1);
            if (turn < 2 && graph) waited(q);
        }
        radar_cuda_fetch(q, &got, x, sizeof got);
        assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_PEER);
        assert_non_null(strstr(err.text, "unspecified launch failure; the device is lost to this "
                                         "process; start again"));
        assert_true(got == -1.0f);
        queue_step(q, x, 1, 1);
        radar_error again = {};
        assert_int_equal(radar_cuda_wait(q, &again), RADAR_ERR_PEER);
        assert_null(radar_cuda_alloc(q, 100));
        radar_cuda_queue_close(q);
        fake_cuda_reset("");
        cudaFree(x);
    }
}

static radar_status give_up(void *asked, radar_error *err) {
    if (++*static_cast<int *>(asked) < 3) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_PEER, "rank 1 is gone");
}

static void a_watcher_ends_the_wait_for_what_never_comes(void **) {
    for (int graph = 0; graph < 2; graph++) {
        fake_cuda_reset(graph ? "hung=25" : "hung=4");
        radar_cuda_queue *const q = opened(true, 0);
        float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
        radar_error err = {};
        int asked = 0;
        float got = -1;
        radar_cuda_watch(q, give_up, &asked);
        for (int turn = 0; turn < (graph ? 3 : 1); turn++) {
            for (int i = 0; i < 10; i++) queue_step(q, x, 1, 1);
            if (turn < 2 && graph) waited(q);
        }
        radar_cuda_fetch(q, &got, x, sizeof got);
        assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_PEER);
        assert_string_equal(err.text, "rank 1 is gone");
        assert_int_equal(asked, 3);
        assert_true(got == -1.0f);
        fake_cuda_reset("");
        radar_cuda_release(q, x);
        radar_cuda_queue_close(q);
    }
}

static void a_watcher_costs_nothing_else(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    int asked = 0;
    radar_cuda_watch(q, give_up, &asked);
    queue_step(q, x, 1, 1);
    assert_true(first_of(q, x) == 1.0f);
    assert_int_equal(asked, 0);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

static void a_wrong_launch_is_named_and_ends_the_list(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, sizeof *x));
    radar_error err = {};
    queue_step(q, x, 1, 1);
    LAUNCH(step, dim3(1), dim3(2048), 0, q, x, x, 1);
    queue_step(q, x, 1, 1);
    assert_int_equal(radar_cuda_wait(q, &err), RADAR_ERR_INTERNAL);
    assert_string_equal(err.text, "GPU 0: step, command 2 of 3: invalid configuration argument");
    assert_true(first_of(q, x) == 1.0f);
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

/* ---- the fake itself ---- */

/* What a child that does `wrong` says as it ends. */
template <class Wrong> static std::string last_words(Wrong wrong) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        wrong();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char part[256];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, (size_t)n);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 99);
    return text;
}

static void device_memory_is_closed_to_the_host(void **) {
    fake_cuda_reset("");
    radar_cuda_queue *const q = opened(true, 0);
    float *const x = static_cast<float *>(radar_cuda_alloc(q, 256));
    waited(q);
    assert_string_equal(last_words([&] { x[2] = 1; }).c_str(),
                        "fake cuda: the host touched device memory: byte 8 of 256\n");
    const std::string beyond = last_words([&] {
        queue_step(q, x + 64, 1, 1);
        waited(q);
    });
    assert_string_equal(beyond.c_str(),
                        "fake cuda: step touched byte 256 of an allocation of 256\n");
    radar_cuda_release(q, x);
    radar_cuda_queue_close(q);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_run_in_order_when_waited_for),
        cmocka_unit_test(without_a_queue_a_kernel_is_launched_at_once),
        cmocka_unit_test(a_list_that_comes_again_is_one_launch),
        cmocka_unit_test(what_lies_between_members_does_not_matter),
        cmocka_unit_test(short_lists_and_no_graphs_are_issued),
        cmocka_unit_test(graphs_unused_for_longest_go),
        cmocka_unit_test(parameters_beyond_the_block_stay_right),
        cmocka_unit_test(what_was_put_before_the_block_ran_out_is_copied),
        cmocka_unit_test(a_parameter_larger_than_the_block_makes_it_grow),
        cmocka_unit_test(room_keeps_what_comes_after_in_place),
        cmocka_unit_test(small_and_large_transfers_arrive),
        cmocka_unit_test(fetches_beyond_the_landing_block_arrive),
        cmocka_unit_test(the_host_works_between_pieces),
        cmocka_unit_test(work_of_the_host_that_fails_ends_the_list),
        cmocka_unit_test(calls_of_a_library_are_captured),
        cmocka_unit_test(a_library_that_fails_is_named),
        cmocka_unit_test(what_cannot_be_captured_is_issued),
        cmocka_unit_test(scratch_grows_and_is_zero_when_new),
        cmocka_unit_test(too_much_memory_is_refused),
        cmocka_unit_test(shared_memory_is_asked_for_once),
        cmocka_unit_test(opening_says_what_is_missing),
        cmocka_unit_test(a_device_is_described),
        cmocka_unit_test(a_lost_device_is_said_and_stays_lost),
        cmocka_unit_test(a_watcher_ends_the_wait_for_what_never_comes),
        cmocka_unit_test(a_watcher_costs_nothing_else),
        cmocka_unit_test(a_wrong_launch_is_named_and_ends_the_list),
        cmocka_unit_test(device_memory_is_closed_to_the_host),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
