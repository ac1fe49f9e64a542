using Krewe.Model.Checkpoints;
using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <summary>Quantisation and the scaled product against PyTorch's reference data.</summary>
public sealed class ScaledProductGoldenTests(ITestOutputHelper output) : IDisposable
{
    private static readonly TileFormat _rowTiles = new(DType.Float8E4M3, 1, 128);
    private static readonly TileFormat _blockTiles = new(DType.Float8E4M3, 128, 128);

    private readonly HostArena _arena = new("golden");
    private readonly SafetensorsFile _golden =
        SafetensorsFile.Open(Path.Combine(TestData.GoldenFolder, "fp8", "quant.safetensors"));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Kernels_quantise_as_PyTorch(bool reference) => With(reference, kernels =>
    {
        foreach ((bool powerOfTwo, string suffix) in (ReadOnlySpan<(bool, string)>)[(false, ""), (true, "_pow2")])
        {
            QuantizedTensor rows = Quantize(kernels, Read("act", 6, 384), _rowTiles with { PowerOfTwo = powerOfTwo });
            Assert.Equal(_golden.ReadArray<byte>("act_e4m3_1x128" + suffix), rows.Codes.AsSpan<byte>().ToArray());
            Assert.Equal(_golden.ReadFloat32("act_scale_1x128" + suffix), rows.Scales.AsSpan<float>().ToArray());
        }

        QuantizedTensor blocks = Quantize(kernels, Read("weight", 200, 300), _blockTiles);
        Assert.Equal(_golden.ReadArray<byte>("weight_e4m3_128x128"), blocks.Codes.AsSpan<byte>().ToArray());
        Assert.Equal(_golden.ReadFloat32("weight_scale_128x128"), blocks.Scales.AsSpan<float>().ToArray());
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_scaled_product_is_within_a_millionth(bool reference) => With(reference, kernels =>
    {
        QuantizedTensor a = Quantize(kernels, Read("gemm_a", 64, 512), _rowTiles);
        QuantizedTensor b = Quantize(kernels, Read("gemm_b", 256, 512), _blockTiles);
        Tensor result = _arena.Allocate(64, 256);
        kernels.ScaledLinear(a, b, result);
        float[] expected = _golden.ReadFloat32("gemm_out_fp64_of_quantized");
        double error = 0, size = 0, worst = 0, largest = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs(result.AsSpan<float>()[i] - (double)expected[i]);
            error += difference * difference;
            size += (double)expected[i] * expected[i];
            worst = Math.Max(worst, difference);
            largest = Math.Max(largest, Math.Abs(expected[i]));
        }

        output.WriteLine($"{kernels.Name}: norm {Math.Sqrt(error / size):e2}, largest {worst / largest:e2}");
        Assert.InRange(Math.Sqrt(error / size), 0, 1e-6);
        Assert.InRange(worst / largest, 0, 1e-6);
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        _golden.Dispose();
        _arena.Dispose();
    }

    private static void With(bool reference, Action<IKernels> test)
    {
        using var pool = new ComputePool(1);
        test(reference ? new ReferenceKernels() : new CpuKernels(pool));
    }

    private Tensor Read(string name, int rows, int columns)
    {
        Tensor tensor = _arena.Allocate(rows, columns);
        _golden.ReadFloat32(name).CopyTo(tensor.AsSpan<float>());
        return tensor;
    }

    private QuantizedTensor Quantize(IKernels kernels, Tensor source, TileFormat format)
    {
        QuantizedTensor result = QuantizedTensor.Allocate(_arena, source.Rows, source.Columns, format);
        kernels.Quantize(source, default, result, default);
        return result;
    }
}
