using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>What a step of decoding hands on to the next; <c>Decoding.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private CudaKernel AppendTokensKernel => field ??= _library.Kernel("Layers/Decoding.cu", "append_tokens");

    /// <inheritdoc/>
    public void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions)
    {
        KernelChecks.AppendTokens(chosen, history, next, ids, positions);
        KernelArguments arguments = new();
        arguments.Add(chosen.Address);
        arguments.Add(Device(history));
        arguments.Add(next.Address);
        arguments.Add(ids.Address);
        arguments.Add(positions.Address);
        arguments.Add(Submission.Fault);
        Launch(AppendTokensKernel, Rows(1), ref arguments);
    }
}
