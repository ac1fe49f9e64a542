// Copies of 16 bytes from global to shared memory that go on while the thread does something else.
#pragma once

// Starts a copy; both addresses are multiples of 16.
__device__ inline void copy_piece(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(global)
                 : "memory");
}

// Closes a group of the copies that the own thread has started.
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the latest `Pending` groups of the own thread are there.
template <int Pending> __device__ inline void copies_await() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
