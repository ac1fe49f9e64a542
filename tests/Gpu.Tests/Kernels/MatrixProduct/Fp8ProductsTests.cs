using Krewe.Gpu.Devices;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>Products large enough for the large tiles, on the tensor cores and by the exact kernel.</summary>
public sealed class Fp8ProductsTests : IDisposable
{
    private static readonly TileFormat RowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat BlockTiles = new(DType.Float8E4M3, 128, 128);

    private readonly CudaDevice _exact = Card.Device(ProductPath.Exact);
    private readonly CudaDevice _fast = Card.Device(ProductPath.Fast);
    private readonly Arena _arena;
    private readonly TestTensors _data = new(7);
    private readonly HostArena _host = new("products");

    public Fp8ProductsTests() => _arena = _fast.CreateArena("products");

    [Theory]
    [InlineData(new[] { 2048 }, 2048, 512, false)]
    [InlineData(new[] { 1200 }, 1024, 640, false)]
    [InlineData(new[] { 1100, 60, 900 }, 1204, 272, false)]
    [InlineData(new[] { 300, 1, 70, 129, 640, 256, 33, 500 }, 520, 388, false)]
    [InlineData(new[] { 2048 }, 2048, 500, true)]
    [InlineData(new[] { 1200, 1200 }, 1024, 640, true)]
    [InlineData(new[] { 700, 3, 1301 }, 1024, 1536, false)]
    [InlineData(new[] { 700, 3, 1301 }, 520, 1792, false)]
    [InlineData(new[] { 700, 3, 1301 }, 1024, 2048, true)]
    public async Task Fast_products_are_near_the_exact_ones(int[] rows, int columns, int depth, bool rowScales)
    {
        int source = rows.Sum() + 5;
        QuantizedTensor input = await QuantizedAsync(source, depth, RowTiles);
        TileFormat format = rowScales ? RowTiles : BlockTiles;
        var weights = new QuantizedTensor[2 * rows.Length];
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] = await QuantizedAsync(columns, depth, format);
        }

        Tensor gather = await OnDeviceAsync(_data.RandomInts(rows.Sum(), 0, source));
        Tensor start = await OnDeviceAsync(_data.Normal(2 * rows.Sum(), columns, 10));
        Tensor[] results = new Tensor[3];
        foreach ((int run, CudaDevice device) in ((int, CudaDevice)[])[(0, _exact), (1, _fast), (2, _fast)])
        {
            Tensor output = _arena.Allocate(start.Shape);
            await device.SubmitAsync(kernels =>
            {
                kernels.Copy(start, output);
                kernels.GroupedScaledLinear(Products(rows, input, gather, weights, output));
            });
            results[run] = _host.Allocate(output.Shape);
            await device.CopyAsync(output, results[run]);
        }

        Assert.InRange(TensorAssert.Difference(results[0], results[1]), 0, 1e-6);
        TensorAssert.Same(results[1], results[2], "second run");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _arena.Dispose();
        _data.Dispose();
        _host.Dispose();
    }

    /// <summary>Two products of each group, as gate and up; every other group gathers, every third adds.</summary>
    private static ScaledProduct[] Products(
        int[] rows, QuantizedTensor input, Tensor gather, QuantizedTensor[] weights, Tensor output)
    {
        var products = new ScaledProduct[weights.Length];
        for (int i = 0, first = 0, place = 0; i < products.Length; i++)
        {
            int count = rows[i / 2];
            Tensor own = i / 2 % 2 == 1
                ? new(gather.Address + (first * sizeof(int)), new TensorShape(count), DType.Int32)
                : default;
            products[i] = new(
                own.IsEmpty ? input.SliceRows(first, count) : input, weights[i], output.SliceRows(place, count), own,
                i % 3 == 1);
            place += count;
            first += i % 2 == 1 ? count : 0;
        }

        return products;
    }

    private async Task<QuantizedTensor> QuantizedAsync(int rows, int columns, TileFormat format)
    {
        Tensor source = await OnDeviceAsync(_data.Normal(rows, columns));
        QuantizedTensor result = QuantizedTensor.Allocate(_arena, rows, columns, format);
        await _fast.SubmitAsync(kernels => kernels.Quantize(source, default, result, default));
        return result;
    }

    private async Task<Tensor> OnDeviceAsync(Tensor host)
    {
        Tensor tensor = _arena.Allocate(host.Shape, host.DType);
        await _fast.CopyAsync(host, tensor);
        return tensor;
    }
}
