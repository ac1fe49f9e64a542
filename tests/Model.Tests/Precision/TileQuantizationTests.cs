using Krewe.Model.Checkpoints;
using Krewe.Model.Precision;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Precision;

public sealed class TileQuantizationTests
{
    [Fact]
    public void Weight_blocks_are_PyTorchs_with_their_edges()
    {
        using SafetensorsFile golden = Golden();
        float[] weight = golden.ReadFloat32("weight");
        byte[] codes = new byte[200 * 300];
        float[] scales = new float[2 * 3];
        TileQuantization.QuantizeBlocks(weight, 200, 300, codes, scales);
        Assert.Equal(golden.ReadFloat32("weight_scale_128x128"), scales);
        Assert.Equal(golden.ReadArray<byte>("weight_e4m3_128x128"), codes);

        float[] back = new float[weight.Length];
        TileQuantization.Dequantize(codes, scales, 200, 300, back, Float8Format.E4M3Table);
        for (int i = 0; i < weight.Length; i++)
        {
            float scale = scales[(i / 300 / 128 * 3) + (i % 300 / 128)];
            float tolerance = Math.Max(Math.Abs(weight[i]) / 16, scale / 1024) * 1.0001f;
            Assert.InRange(back[i], weight[i] - tolerance, weight[i] + tolerance);
        }
    }

    [Theory]
    [InlineData(false, "")]
    [InlineData(true, "_pow2")]
    public void Rows_are_PyTorchs(bool powerOfTwo, string suffix)
    {
        using SafetensorsFile golden = Golden();
        byte[] codes = new byte[6 * 384];
        float[] scales = new float[6 * 3];
        TileQuantization.QuantizeRows(golden.ReadFloat32("act"), 6, 384, codes, scales, powerOfTwo);
        Assert.Equal(golden.ReadFloat32("act_scale_1x128" + suffix), scales);
        Assert.Equal(golden.ReadArray<byte>("act_e4m3_1x128" + suffix), codes);
    }

    [Fact]
    public void Zeros_and_subnormals_give_finite_values()
    {
        float[] values = [.. Enumerable.Repeat(0f, 128), .. Enumerable.Repeat(float.Epsilon, 128)];
        byte[] codes = new byte[256];
        float[] scales = new float[2];
        TileQuantization.QuantizeRows(values, 2, 128, codes, scales);
        Assert.Equal([1f, 1f], scales);
        Assert.All(codes, code => Assert.Equal(0, code));
    }

    [Theory]
    [InlineData(1f, 1f)]
    [InlineData(1.0001f, 2f)]
    [InlineData(0.75f, 1f)]
    [InlineData(0.5f, 0.5f)]
    public void Powers_of_two_round_up(float scale, float expected) =>
        Assert.Equal(expected, TileQuantization.CeilingPowerOfTwo(scale));

    [Fact]
    public void Short_buffers_are_refused_with_both_sizes()
    {
        ArgumentException exception = Assert.Throws<ArgumentException>(
            () => TileQuantization.QuantizeBlocks(new float[10], 2, 5, new byte[10], []));
        Assert.Contains("1 scales; got 10, 10 and 0", exception.Message);
    }

    private static SafetensorsFile Golden() =>
        SafetensorsFile.Open(Path.Combine(TestData.GoldenFolder, "fp8", "quant.safetensors"));
}
