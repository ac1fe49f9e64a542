using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Matrix products; <c>MatrixProducts.cu</c>.</content>
internal sealed partial class CudaKernels
{
    /// <summary>Few rows: tiles of 16 by 16.</summary>
    private const int FewRows = 16;
    private readonly List<DeviceProduct> _products = [];

    private ProductVariants LinearKernels => field ??= new(_library, "linear");

    private ProductVariants LinearBackwardInputKernels => field ??= new(_library, "linear_backward_input");

    private ProductVariants LinearBackwardWeightKernels => field ??= new(_library, "linear_backward_weight");

    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        AddLinear(new(input, weight, output, default, accumulate));
        Multiply(LinearKernels);
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        AddLinearBackwardInput(new(gradOutput, weight, gradInput, default, accumulate));
        Multiply(LinearBackwardInputKernels);
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        AddLinearBackwardWeight(new(input, gradWeight, gradOutput));
        Multiply(LinearBackwardWeightKernels);
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinear(product);
        }

        Multiply(LinearKernels);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinearBackwardInput(product);
        }

        Multiply(LinearBackwardInputKernels);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products, this);
        foreach (ref readonly GroupedProduct product in products)
        {
            AddLinearBackwardWeight(product);
        }

        Multiply(LinearBackwardWeightKernels);
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
            _products.Add(new(
                a.Address, b.Address, c.Address, gather.Address, c.Rows, c.Columns, k, a.RowStride, b.RowStride,
                c.RowStride, accumulate ? 1 : 0, 0));
        }
    }

    /// <summary>Launches the products that were added, all in one grid.</summary>
    private void Multiply(ProductVariants variants)
    {
        if (_products.Count == 0)
        {
            return;
        }

        Span<DeviceProduct> products = CollectionsMarshal.AsSpan(_products);
        int tile = ChooseTile(products);
        int tiles = 0;
        foreach (ref DeviceProduct product in products)
        {
            product = product with { FirstTile = tiles };
            tiles = checked(tiles + Tiles(product, tile));
        }

        KernelArguments arguments = new();
        arguments.Add(Submission.Upload<DeviceProduct>(products));
        arguments.Add(products.Length);
        arguments.Add(Submission.Fault);
        _products.Clear();
        Launch(variants.Of(tile), Rows(tiles), ref arguments);
    }

    /// <summary>The largest tile with which the products still fill the card.</summary>
    private int ChooseTile(ReadOnlySpan<DeviceProduct> products)
    {
        int mostRows = 0;
        long largeTiles = 0;
        foreach (ref readonly DeviceProduct product in products)
        {
            mostRows = Math.Max(mostRows, product.M);
            largeTiles += Tiles(product, ProductVariants.Large);
        }

        return mostRows <= FewRows ? ProductVariants.Few
            : largeTiles >= _multiprocessors ? ProductVariants.Large
            : ProductVariants.Small;
    }

    private static int Tiles(in DeviceProduct product, int tile) =>
        checked((int)(Dim3.Cover(product.M, tile) * Dim3.Cover(product.N, tile)));

    /// <summary>A product by the side of its tiles; all give the same bits.</summary>
    private sealed class ProductVariants(KernelLibrary library, string name)
    {
        public const int Few = 16;
        public const int Small = 64;
        public const int Large = 128;
        private readonly CudaKernel _few = library.Kernel("MatrixProducts.cu", $"{name}_{Few}");
        private readonly CudaKernel _small = library.Kernel("MatrixProducts.cu", $"{name}_{Small}");
        private readonly CudaKernel _large = library.Kernel("MatrixProducts.cu", $"{name}_{Large}");

        public CudaKernel Of(int tile) => tile switch { Few => _few, Small => _small, _ => _large };
    }
}
