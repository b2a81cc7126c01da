/* launch.h - a kernel and its arguments, queued: what LAUNCH of both dev.h ends in.  Included behind the definition of dim3. */
#ifndef RADAR_CUDA_LAUNCH_H
#define RADAR_CUDA_LAUNCH_H

#include "kernels/cuda/queue.h"

/* What lies between the members of an argument is cleared where the compiler can: lists of commands are known again by their bytes. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define RADAR_CLEAR_PADDING(p) __builtin_clear_padding(p)
#endif
#endif
#ifndef RADAR_CLEAR_PADDING
#define RADAR_CLEAR_PADDING(p) ((void)(p))
#endif

/* T, but the compiler does not deduce it from an argument: the kernel alone says what its parameters are. */
template <class T> struct radar_as { using type = T; };

template <class... P>
static inline int radar_queue_kernel(void (*kernel)(P...), dim3 grid, dim3 block,
                                     size_t shared_bytes, radar_cuda_queue *queue,
                                     typename radar_as<P>::type... a) {
    const radar_cuda_shape shape = {
        {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes};
    void *const args[] = {(void *)&a...};
    const size_t bytes[] = {sizeof(a)...};
    (RADAR_CLEAR_PADDING(&a), ...);
    return radar_cuda_launch(queue, reinterpret_cast<const void *>(kernel), &shape, args, bytes,
                             (int)sizeof...(P));
}

#endif
