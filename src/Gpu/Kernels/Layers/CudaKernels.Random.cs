using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Random values; <c>Random.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel FillNormalKernel => field ??= _library.Kernel("Layers/Random.cu", "fill_normal");

    /// <inheritdoc/>
    /// <remarks>The logarithm and the sine are the device's own: a value in some hundred million differs from the host's in
    /// its last bit.</remarks>
    public void FillNormal(Tensor destination, ulong state, double standardDeviation)
    {
        KernelChecks.FillNormal(destination);
        if (destination.Count == 0)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(destination.Address);
        arguments.Add(destination.Count);
        arguments.Add(state);
        arguments.Add(standardDeviation);
        long pairs = (destination.Count + 1) / 2;
        Launch(FillNormalKernel, new(new(Dim3.Cover(pairs, BlockThreads)), new(BlockThreads)), ref arguments);
    }
}
