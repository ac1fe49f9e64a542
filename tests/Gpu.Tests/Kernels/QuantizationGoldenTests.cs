using Krewe.Gpu.Devices;
using Krewe.Gpu.Kernels;
using Krewe.Model.Checkpoints;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels;

/// <summary>Quantisation and scaled products on a card against PyTorch's reference data.</summary>
public sealed class QuantizationGoldenTests : IDisposable
{
    private static readonly TileFormat RowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat BlockTiles = new(DType.Float8E4M3, 128, 128);

    private readonly CudaDevice _device = Card.Device(ProductPath.Exact);
    private readonly Arena _arena;
    private readonly HostArena _host = new("golden");
    private readonly SafetensorsFile _golden =
        SafetensorsFile.Open(Path.Combine(AppContext.BaseDirectory, "Golden", "quant.safetensors"));

    public QuantizationGoldenTests() => _arena = _device.CreateArena("golden");

    [Fact]
    public async Task Codes_and_scales_are_those_of_PyTorch()
    {
        foreach ((bool powerOfTwo, string suffix) in ((bool, string)[])[(false, ""), (true, "_pow2")])
        {
            TileFormat format = RowTiles with { PowerOfTwo = powerOfTwo };
            QuantizedTensor rows = await QuantizeAsync(_device, "act", 6, 384, format);
            Assert.Equal(_golden.ReadArray<byte>("act_e4m3_1x128" + suffix), await BytesAsync(rows.Codes));
            Assert.Equal(_golden.ReadFloat32("act_scale_1x128" + suffix), await FloatsAsync(rows.Scales));
        }

        QuantizedTensor blocks = await QuantizeAsync(_device, "weight", 200, 300, BlockTiles);
        Assert.Equal(_golden.ReadArray<byte>("weight_e4m3_128x128"), await BytesAsync(blocks.Codes));
        Assert.Equal(_golden.ReadFloat32("weight_scale_128x128"), await FloatsAsync(blocks.Scales));
    }

    [Theory]
    [InlineData(ProductPath.Exact)]
    [InlineData(ProductPath.Fast)]
    public async Task The_scaled_product_is_near_that_in_float64(ProductPath products)
    {
        CudaDevice device = Card.Device(products);
        QuantizedTensor a = await QuantizeAsync(device, "gemm_a", 64, 512, RowTiles);
        QuantizedTensor b = await QuantizeAsync(device, "gemm_b", 256, 512, BlockTiles);
        Tensor result = _arena.Allocate(64, 256);
        await device.SubmitAsync(kernels => kernels.ScaledLinear(a, b, result));
        float[] actual = await FloatsAsync(result), expected = _golden.ReadFloat32("gemm_out_fp64_of_quantized");
        double apart = 0, size = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            apart += Math.Pow(actual[i] - (double)expected[i], 2);
            size += (actual[i] * (double)actual[i]) + (expected[i] * (double)expected[i]);
        }

        double difference = apart / size;
        Assert.InRange(difference, 0, products == ProductPath.Exact ? 1e-12 : 1e-6);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _golden.Dispose();
        _arena.Dispose();
        _host.Dispose();
    }

    private async Task<QuantizedTensor> QuantizeAsync(
        CudaDevice device, string name, int rows, int columns, TileFormat format)
    {
        Tensor values = _host.Allocate(rows, columns), source = _arena.Allocate(rows, columns);
        _golden.ReadFloat32(name).CopyTo(values.AsSpan<float>());
        QuantizedTensor result = QuantizedTensor.Allocate(_arena, rows, columns, format);
        await device.CopyAsync(values, source);
        await device.SubmitAsync(kernels => kernels.Quantize(source, default, result, default));
        return result;
    }

    private async Task<byte[]> BytesAsync(Tensor tensor) => (await OnHostAsync(tensor)).AsSpan<byte>().ToArray();

    private async Task<float[]> FloatsAsync(Tensor tensor) => (await OnHostAsync(tensor)).AsSpan<float>().ToArray();

    private async Task<Tensor> OnHostAsync(Tensor tensor)
    {
        Tensor host = _host.Allocate(tensor.Shape, tensor.DType);
        await _device.CopyAsync(tensor, host);
        return host;
    }
}
