// TODO header
#include "MatrixProduct/Consumer.cuh"
#include "MatrixProduct/Producer.cuh"

using namespace krewe;

extern "C" __global__ void __cluster_dims__(Shape::Cluster, 1, 1) __launch_bounds__(Shape::Threads, 1)
    fp8_matrix_product(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                       const __grid_constant__ TensorMap scalesA, const __grid_constant__ TensorMap scalesB,
                       const __grid_constant__ TensorMap output, const __grid_constant__ Arguments arguments) {
    alignas(1024) extern __shared__ uint8 shared[];
    const SharedMemory memory{shared_address(shared)};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Shape::Stages; ++stage) {
            barrier_init(memory.filled(stage), 1);
            barrier_init(memory.emptied(stage), Shape::Cluster * Shape::Consumers * WarpgroupWarps);
        }
        barrier_init_fence();
    }
    cluster_sync();
    grid_release_dependents();
    grid_await_predecessors();

    if (warp >= Shape::Consumers * WarpgroupWarps) {
        if (Shape::Consumers == 2) {
            registers_decrease<Shape::ProducerRegisters>();
        }
        if (warp == Shape::Consumers * WarpgroupWarps && lane_index() == 0) {
            produce(arguments, Maps{&a, &b, &scalesA, &scalesB}, memory);
        }
        __syncwarp();
    } else {
        if (Shape::Consumers == 2) {
            registers_increase<Shape::ConsumerRegisters>();
        }
        Consumer(arguments, &output, memory, warp).run();
    }
    cluster_sync();
}
