using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Kernels;

/// <content>AdamW; <c>Optimizer.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int AdamWColumns = 1024;
    private readonly List<DeviceAdamWParameter> _adamWParameters = [];

    private CudaKernel AdamWKernel => field ??= _library.Kernel("Layers/Optimizer.cu", "adamw");

    /// <inheritdoc/>
    public void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step)
    {
        KernelChecks.AdamW(parameters, step);
        _adamWParameters.Clear();
        int blocks = 0;
        foreach (ref readonly AdamWParameter parameter in parameters)
        {
            if (parameter.Weight.Count > 0)
            {
                DeviceAdamWParameter entry = new(parameter, blocks);
                _adamWParameters.Add(entry);
                blocks = checked(blocks + entry.Blocks(AdamWColumns));
            }
        }

        if (blocks == 0)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceAdamWParameter>(CollectionsMarshal.AsSpan(_adamWParameters)));
        arguments.Add(_adamWParameters.Count);
        arguments.Add(new DeviceAdamWStep(step));
        Launch(AdamWKernel, Rows(blocks), ref arguments);
    }
}
