// What every kernel of this folder stands on: integer types, addresses, and thin wrappers of the Hopper instructions
// (mbarrier, tensor copies, clusters, warpgroup registers). NVRTC compiles it without any header of the toolkit.
//
// Shared memory addresses are 32-bit addresses of the .shared window of the own block. An mbarrier's phase is waited
// for by its parity, which starts at 0 and turns with each completed phase. Source: PTX ISA 8.0 and later, sm_90a.
#pragma once

#define KREWE_DEVICE __device__ __forceinline__

namespace krewe {

using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int64 = long long;

constexpr int WarpThreads = 32;
constexpr int WarpgroupThreads = 128;
constexpr int WarpgroupWarps = 4;

/// A tensor map as cuTensorMapEncodeTiled writes it; passed by value as a __grid_constant__ parameter.
struct alignas(64) TensorMap {
    uint64 words[16];
};

/// Ceiling of a quotient of non-negative integers.
KREWE_DEVICE constexpr int ceil_divide(int value, int divisor) { return (value + divisor - 1) / divisor; }

KREWE_DEVICE constexpr int min_of(int a, int b) { return a < b ? a : b; }

KREWE_DEVICE constexpr int max_of(int a, int b) { return a > b ? a : b; }

/// The own thread's warp, the same register value in all lanes, so that the compiler knows branches on it as uniform.
KREWE_DEVICE int warp_index() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / WarpThreads, 0); }

KREWE_DEVICE int lane_index() { return static_cast<int>(threadIdx.x) % WarpThreads; }

/// Address within the .shared window of a pointer to shared memory.
KREWE_DEVICE uint32 shared_address(const void* pointer) {
    uint32 address;
    asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }" : "=r"(address) : "l"(pointer));
    return address;
}

KREWE_DEVICE float load_shared(uint32 address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
    return value;
}

KREWE_DEVICE void load_shared_pair(uint32 address, float& first, float& second) {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(first), "=f"(second) : "r"(address) : "memory");
}

KREWE_DEVICE void store_shared(uint32 address, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

/// Two floats as bfloat16, rounded to the nearest even, the first in the lower half.
KREWE_DEVICE uint32 pack_bfloat16(float low, float high) {
    uint32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/// A load through the read-only path: the memory must not change while the kernel runs.
KREWE_DEVICE float load_constant(const float* pointer) {
    float value;
    asm("ld.global.nc.f32 %0, [%1];" : "=f"(value) : "l"(pointer));
    return value;
}

/// Four such loads at a multiple of 16 bytes.
KREWE_DEVICE void load_constant_four(const float* pointer, float (&values)[4]) {
    asm volatile("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(values[0]), "=f"(values[1]), "=f"(values[2]), "=f"(values[3])
                 : "l"(pointer));
}

/// A load of what another kernel may have written just now.
KREWE_DEVICE int load_changing(const int* pointer) { return *static_cast<const volatile int*>(pointer); }

// ---- mbarrier

/// Makes a barrier whose phase completes after <count> arrivals and all bytes that were announced.
KREWE_DEVICE void barrier_init(uint32 barrier, uint32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/// Shows initialised barriers to the copy engine and the other blocks of the cluster.
KREWE_DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Arrives and announces <bytes> that the copy engine will bring within this phase.
KREWE_DEVICE void barrier_arrive_expect(uint32 barrier, uint32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

KREWE_DEVICE void barrier_arrive(uint32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives at the barrier of the same offset in block <rank> of the cluster, which may be the own block. Orders the
/// reads before it, not writes to global memory: a release for the whole cluster would drain those, at 0.6 us each.
KREWE_DEVICE void barrier_arrive_at(uint32 barrier, uint32 rank) {
    asm volatile("{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1;"
                 " mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}

/// Waits until the phase of <parity> has completed.
KREWE_DEVICE void barrier_wait(uint32 barrier, uint32 parity) {
    asm volatile("{ .reg .pred complete;"
                 " WAIT: mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;"
                 " @!complete bra WAIT; }" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

// ---- tensor copies

/// Makes a tensor map in device memory, which the host writes anew for each launch, known to the own thread's copies.
KREWE_DEVICE void acquire_tensor_map(const TensorMap* map) {
    asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

/// Starts the copy of one box at (x, y), x the contiguous dimension, to shared memory; its bytes count at <barrier>.
/// What lies outside of the tensor arrives as zeros and counts as well.
KREWE_DEVICE void copy_box(uint32 target, const TensorMap* map, uint32 barrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}],"
                 " [%2];" ::"r"(target),
                 "l"(map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

/// The same to the same offset in each block of the cluster named in <blocks>, counted at the barrier of the same
/// offset there.
KREWE_DEVICE void copy_box_multicast(uint32 target, const TensorMap* map, uint32 barrier, int x, int y, uint16 blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(target),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "h"(blocks)
                 : "memory");
}

/// Shows the own writes to shared memory to the copy engine.
KREWE_DEVICE void copy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Starts the copy of one box from shared memory to the tensor at (x, y); what lies outside of the tensor is left out.
KREWE_DEVICE void store_box(const TensorMap* map, uint32 source, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(source),
                 "r"(x), "r"(y)
                 : "memory");
}

/// The same, but adds the box to what lies there.
KREWE_DEVICE void add_box(const TensorMap* map, uint32 source, int x, int y) {
    asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
                     map),
                 "r"(source), "r"(x), "r"(y)
                 : "memory");
}

/// Closes a group of the copies that the own thread started from shared memory.
KREWE_DEVICE void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Waits until all but the latest <Pending> groups have read their shared memory.
template <int Pending> KREWE_DEVICE void store_await_reads() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

/// Waits until all groups have been written.
KREWE_DEVICE void store_await_writes() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// Asks for <bytes>, a multiple of 16, from a multiple of 16 on, to be brought into the L2 cache.
KREWE_DEVICE void prefetch_line(const void* pointer, uint32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(pointer), "r"(bytes) : "memory");
}

// ---- clusters, grids, warpgroups

/// All threads of all blocks of the cluster meet; shared memory written before is seen after.
KREWE_DEVICE void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Lets the next kernel of the stream begin its start-up where the launch asked for it; nothing otherwise.
KREWE_DEVICE void grid_release_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

/// Waits until the kernels before this one have ended and their writes are seen; nothing in an ordinary launch.
KREWE_DEVICE void grid_await_predecessors() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Gives registers of the warpgroup back, down to <Count> a thread.
template <int Count> KREWE_DEVICE void registers_decrease() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

/// Takes registers up to <Count> a thread, waiting until they were given back.
template <int Count> KREWE_DEVICE void registers_increase() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}

}  // namespace krewe
