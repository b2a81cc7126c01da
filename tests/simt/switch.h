/* switch.h - from one stack to another: what fibers are made of.  No system call, which swapcontext has two of. */
#ifndef RADAR_SIMT_SWITCH_H
#define RADAR_SIMT_SWITCH_H

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

/* The registers that a function has to keep lie on its stack; where that ends is all there is to remember. */
struct stack_place {
    void *sp = nullptr;
};
extern "C" void simt_switch(void **from, void *to);
asm(R"(
.text
.globl simt_switch
.type simt_switch, @function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch, . - simt_switch
)");

static inline void stack_switch(stack_place &from, stack_place &to) {
    simt_switch(&from.sp, to.sp);
}
/* As if entry, which never returns, had been about to be called. */
static inline void stack_make(stack_place &p, char *stack, size_t bytes, void (*entry)()) {
    void **top = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(stack + bytes) & ~15ul);
    *--top = nullptr; /* where a return address would be: entry finds its stack aligned */
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    p.sp = top;
}

#else

#include <ucontext.h>

struct stack_place {
    ucontext_t context;
};
static inline void stack_switch(stack_place &from, stack_place &to) {
    swapcontext(&from.context, &to.context);
}
static inline void stack_make(stack_place &p, char *stack, size_t bytes, void (*entry)()) {
    getcontext(&p.context);
    p.context.uc_stack.ss_sp = stack;
    p.context.uc_stack.ss_size = bytes;
    p.context.uc_link = nullptr;
    makecontext(&p.context, entry, 0);
}

#endif
#endif
