using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Dispatch and combine of experts that live on this device; <c>Dispatch.cu</c> and <c>Combine.cu</c>.</content>
internal sealed partial class CudaKernels
{
    /// <summary>Pairs of a piece of the sort, and threads of its block; as in <c>Dispatch.cu</c>.</summary>
    private const int PairsOfPiece = 1024;

    /// <summary>Shared memory that every block may have.</summary>
    private const int MostPlanBytes = 48 << 10;

    private CudaKernel CountExperts => field ??= _library.Kernel("Experts/Dispatch.cu", "count_experts");

    private CudaKernel PlaceExperts => field ??= _library.Kernel("Experts/Dispatch.cu", "place_experts");

    private CudaKernel SortPairs => field ??= _library.Kernel("Experts/Dispatch.cu", "sort_pairs");

    private CudaKernel PlanFew => field ??= _library.Kernel("Experts/Dispatch.cu", "plan_few");

    private CudaKernel CombineExpertsKernel => field ??= _library.Kernel("Experts/Combine.cu", "combine_experts");

    private CudaKernel CombineExpertsBackwardKernel =>
        field ??= _library.Kernel("Experts/Combine.cu", "combine_experts_backward");

    /// <inheritdoc/>
    public void PlanDispatch(Tensor indices, DispatchTable table)
    {
        KernelChecks.PlanDispatch(indices, table);
        int pairs = table.Count, experts = table.Experts;
        int pieces = (int)Dim3.Cover(pairs, PairsOfPiece);
        if (pieces <= 1 && experts <= PairsOfPiece && TryPlanFew(indices, table))
        {
            return;
        }

        using Scratch counts = Take((long)Math.Max(1, pieces) * experts * sizeof(int), nameof(PlanDispatch));
        KernelArguments arguments = new();
        if (pairs > 0)
        {
            arguments.Add(Device(indices));
            arguments.Add(pairs);
            arguments.Add(experts);
            arguments.Add(counts.Address);
            Launch(CountExperts, Rows(pieces, PairsOfPiece, experts * sizeof(int)), ref arguments);
        }

        arguments = new();
        arguments.Add(counts.Address);
        arguments.Add(pieces);
        arguments.Add(experts);
        arguments.Add(table.Offsets.Address);
        Launch(PlaceExperts, Rows(1, PairsOfPiece), ref arguments);
        if (pairs > 0)
        {
            arguments = new();
            arguments.Add(Device(indices));
            arguments.Add(pairs);
            arguments.Add(experts);
            arguments.Add(counts.Address);
            arguments.Add(table.Rows.Address);
            arguments.Add(table.Assignments.Address);
            int sharedBytes = PairsOfPiece / WarpThreads * experts * sizeof(int);
            Launch(SortPairs, Rows(pieces, PairsOfPiece, sharedBytes), ref arguments);
        }
    }

    /// <summary>Plans in one launch; says false where the counts of all warps are more than a block can hold.</summary>
    private bool TryPlanFew(Tensor indices, DispatchTable table)
    {
        int warps = (int)Dim3.Cover(Math.Max(table.Count, table.Experts), WarpThreads);
        int sharedBytes = (warps + 2) * table.Experts * sizeof(int);
        if (sharedBytes > MostPlanBytes)
        {
            return false;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(indices));
        arguments.Add(table.Count);
        arguments.Add(table.Experts);
        arguments.Add(table.Offsets.Address);
        arguments.Add(table.Rows.Address);
        arguments.Add(table.Assignments.Address);
        Launch(PlanFew, Rows(1, warps * WarpThreads, sharedBytes), ref arguments);
        return true;
    }

    /// <inheritdoc/>
    public void CombineExperts(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, DType precision, Tensor output)
    {
        KernelChecks.CombineExperts(source, table, indices, weights, groupSize, precision, output);
        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(table.Assignments.Address);
        arguments.Add(Device(indices));
        arguments.Add(Device(weights));
        arguments.Add(groupSize);
        arguments.Add(precision == DType.BFloat16 ? 1 : 0);
        arguments.Add(Device(output));
        arguments.Add(FitFours(source) && FitFours(output) ? 1 : 0);
        uint blocks = Dim3.Cover(output.Rows, BlockThreads / WarpThreads);
        uint parts = Math.Min(
            Dim3.Cover(output.Columns, 4 * WarpThreads), Dim3.Cover(4 * _multiprocessors, (int)Math.Max(1, blocks)));
        Launch(CombineExpertsKernel, new(new(blocks, Math.Max(1, parts)), new(BlockThreads)), ref arguments);
    }

    /// <inheritdoc/>
    public void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights)
    {
        KernelChecks.CombineExpertsBackward(gradOutput, source, table, weights, precision, gradSource, gradWeights);
        LaunchCombineBackward(gradOutput, source, table, weights, precision, gradSource, gradWeights);
    }

    /// <summary>The gradient of the rows is not made where <paramref name="gradSource"/> is empty.</summary>
    private void LaunchCombineBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights)
    {
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(source));
        arguments.Add(table.Assignments.Address);
        arguments.Add(Device(weights));
        arguments.Add(precision == DType.BFloat16 ? 1 : 0);
        arguments.Add(gradSource.Address);
        arguments.Add(gradSource.RowStride);
        arguments.Add(gradSource.DType == DType.BFloat16 ? 1 : 0);
        arguments.Add(gradSource.Address % 16 == 0 && gradSource.RowStride % 4 == 0 ? 1 : 0);
        arguments.Add(Device(gradWeights));
        int blocks = (int)Dim3.Cover(table.Count, BlockThreads / WarpThreads);
        Launch(CombineExpertsBackwardKernel, Rows(blocks), ref arguments);
    }

    /// <summary>Whether rows can be read four values at a time.</summary>
    private static bool FitFours(Tensor tensor) =>
        tensor.Address % 16 == 0 && tensor.RowStride % 4 == 0 && tensor.Columns % 4 == 0;
}
