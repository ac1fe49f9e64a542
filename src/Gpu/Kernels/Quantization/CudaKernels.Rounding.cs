using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Rounding to bfloat16; <c>Rounding.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int RoundedColumns = 1024;

    private CudaKernel RoundKernel => field ??= _library.Kernel("Quantization/Rounding.cu", "round_to_bfloat16");

    /// <inheritdoc/>
    public DType BFloat16Storage => DType.BFloat16;

    /// <inheritdoc/>
    public void RoundToBFloat16(Tensor source, Tensor destination)
    {
        KernelChecks.RoundToBFloat16(source, destination);
        if (source.Count == 0)
        {
            return;
        }

        if (source.IsDense && destination.IsDense && source.Count <= int.MaxValue)
        {
            TensorShape row = new(1, (int)source.Count);
            (source, destination) = (source.Reshape(row), destination.Reshape(row));
        }

        KernelArguments arguments = new();
        arguments.Add(Device(source));
        arguments.Add(destination.Address);
        arguments.Add(destination.RowStride);
        arguments.Add(destination.DType == DType.BFloat16 ? 1 : 0);
        arguments.Add(InFours(source) && InFours(destination) ? 1 : 0);
        Launch(
            RoundKernel, Rows(checked(source.Rows * (int)Dim3.Cover(source.Columns, RoundedColumns))), ref arguments);
    }

    /// <summary>Every fourth element of a row, and a row's end, is where a vector of four may lie.</summary>
    private static bool InFours(Tensor tensor) =>
        tensor.Columns % 4 == 0 && (tensor.RowStride % 4 == 0 || tensor.Rows == 1)
        && tensor.Address % (4 * tensor.DType.SizeInBytes()) == 0;
}
