using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Matrix products; <c>MatrixProducts.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int ProductTile = 64;
    private readonly List<DeviceProduct> _products = [];

    private CudaKernel LinearKernel => field ??= _library.Kernel("MatrixProducts.cu", "linear");

    private CudaKernel LinearBackwardInputKernel =>
        field ??= _library.Kernel("MatrixProducts.cu", "linear_backward_input");

    private CudaKernel LinearBackwardWeightKernel =>
        field ??= _library.Kernel("MatrixProducts.cu", "linear_backward_weight");

    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        AddLinear(new(input, weight, output, default, accumulate));
        Multiply(LinearKernel);
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        AddLinearBackwardInput(new(gradOutput, weight, gradInput, default, accumulate));
        Multiply(LinearBackwardInputKernel);
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        AddLinearBackwardWeight(new(input, gradWeight, gradOutput));
        Multiply(LinearBackwardWeightKernel);
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinear(product);
        }

        Multiply(LinearKernel);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinearBackwardInput(product);
        }

        Multiply(LinearBackwardInputKernel);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinearBackwardWeight(product);
        }

        Multiply(LinearBackwardWeightKernel);
    }

    /// <summary>output[m, n] (+)= input[m, k] weight[n, k].</summary>
    private void AddLinear(in GroupedProduct p) =>
        Add(p.Input, p.Weight, p.Output, p.InputRows, p.Weight.Columns, p.Accumulate);

    /// <summary>gradInput[m, n] (+)= gradOutput[m, k] weight[k, n].</summary>
    private void AddLinearBackwardInput(in GroupedProduct p) =>
        Add(p.Input, p.Weight, p.Output, p.InputRows, p.Weight.Rows, p.Accumulate);

    /// <summary>gradWeight[m, n] += gradOutput[k, m] input[k, n].</summary>
    private void AddLinearBackwardWeight(in GroupedProduct p) =>
        Add(p.Output, p.Input, p.Weight, p.InputRows, p.Output.Rows, true);

    private void Add(Tensor a, Tensor b, Tensor c, Tensor gather, int k, bool accumulate)
    {
        if (c.Count > 0)
        {
            int tiles = _products.Count == 0 ? 0 : _products[^1].FirstTile + Tiles(_products[^1]);
            _products.Add(new(
                a.Address, b.Address, c.Address, gather.Address, c.Rows, c.Columns, k, a.RowStride, b.RowStride,
                c.RowStride, accumulate ? 1 : 0, tiles));
        }
    }

    private static int Tiles(in DeviceProduct product) =>
        checked((int)(Dim3.Cover(product.M, ProductTile) * Dim3.Cover(product.N, ProductTile)));

    /// <summary>Launches the products that were added, all in one grid.</summary>
    private void Multiply(CudaKernel kernel)
    {
        if (_products.Count == 0)
        {
            return;
        }

        DeviceProduct last = _products[^1];
        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceProduct>(CollectionsMarshal.AsSpan(_products)));
        arguments.Add(_products.Count);
        arguments.Add(Submission.Fault);
        _products.Clear();
        Launch(kernel, Rows(last.FirstTile + Tiles(last)), ref arguments);
    }
}
