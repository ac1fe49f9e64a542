using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Products of float32 and few rows, as the gate of a step of decoding; <c>FewRowsLinear.cu</c>.</content>
internal sealed partial class CudaKernels
{
    /// <summary>Most rows of such a product.</summary>
    private const int MostRowsOfFew = 64;

    /// <summary>Columns of the result that a block takes, and rows.</summary>
    private const int SideOfFew = 8;

    /// <summary>Two buffers of 16 rows of 1024, four values apart.</summary>
    private const int BytesOfFew = 2 * 2 * SideOfFew * (1024 + 4) * sizeof(float);

    private CudaKernel LinearFewRows => field ??= _library.Kernel("MatrixProduct/FewRowsLinear.cu", "linear_few_rows");

    /// <summary>Runs a forward product of few rows; says false where it is not one, or its rows do not lie as that reads
    /// them.</summary>
    private bool TryMultiplyFewRows(ProductForm form, in GroupedProduct product)
    {
        (Tensor input, Tensor weight, Tensor output) = (product.Input, product.Weight, product.Output);
        if (form != ProductForm.Forward || input.Rows > MostRowsOfFew || output.Count == 0 || input.Columns == 0
            || input.DType != DType.Float32 || weight.DType != DType.Float32 || !FitFours(input) || !FitFours(weight))
        {
            return false;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(input));
        arguments.Add(Device(weight));
        arguments.Add(Device(output));
        arguments.Add(product.Accumulate ? 1 : 0);
        var grid = new Dim3(Dim3.Cover(output.Columns, SideOfFew), Dim3.Cover(output.Rows, SideOfFew));
        Launch(LinearFewRows, new(grid, new(BlockThreads), BytesOfFew), ref arguments);
        return true;
    }
}
