using Krewe.Model.Checkpoints;
using Krewe.Model.Precision;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Precision;

public sealed class Float8FormatTests
{
    [Fact]
    public void Tables_are_PyTorchs()
    {
        using SafetensorsFile golden = Golden();
        Assert.Equal(golden.ReadFloat32("e4m3_decode"), Float8Format.E4M3Table.ToArray());
        Assert.Equal(golden.ReadFloat32("e5m2_decode"), Float8Format.E5M2Table.ToArray());
    }

    [Fact]
    public void Rounds_as_PyTorch()
    {
        using SafetensorsFile golden = Golden();
        float[] input = golden.ReadFloat32("round_in");
        Assert.Equal(golden.ReadArray<byte>("round_e4m3"), input.Select(Float8Format.EncodeE4M3));
        Assert.Equal(golden.ReadArray<byte>("round_e5m2"), input.Select(Float8Format.EncodeE5M2));
    }

    [Fact]
    public void Every_code_survives_and_every_midpoint_goes_to_the_even_code()
    {
        for (int code = 0; code < 0x7E; code++)
        {
            Check(code, Float8Format.DecodeE4M3, Float8Format.EncodeE4M3);
        }

        for (int code = 0; code < 0x7B; code++)
        {
            Check(code, Float8Format.DecodeE5M2, Float8Format.EncodeE5M2);
        }
    }

    [Fact]
    public void Beyond_the_range_it_saturates_and_NaN_stays()
    {
        Assert.Equal(0x7E, Float8Format.EncodeE4M3(1e9f));
        Assert.Equal(0xFE, Float8Format.EncodeE4M3(float.NegativeInfinity));
        Assert.Equal(0x7B, Float8Format.EncodeE5M2(1e9f));
        Assert.Equal(0xFB, Float8Format.EncodeE5M2(float.NegativeInfinity));
        Assert.True(float.IsNaN(Float8Format.DecodeE4M3(Float8Format.EncodeE4M3(float.NaN))));
        Assert.True(float.IsNaN(Float8Format.DecodeE5M2(Float8Format.EncodeE5M2(float.NaN))));
    }

    private static void Check(int code, Func<byte, float> decode, Func<float, byte> encode)
    {
        float value = decode((byte)code);
        float next = decode((byte)(code + 1));
        float middle = (value + next) / 2;
        Assert.Equal(code, encode(value));
        Assert.Equal(code | 0x80, encode(-value));
        Assert.Equal((code + 1) & ~1, encode(middle));
        Assert.Equal(code, encode(MathF.BitDecrement(middle)));
        Assert.Equal(code + 1, encode(MathF.BitIncrement(middle)));
    }

    private static SafetensorsFile Golden() =>
        SafetensorsFile.Open(Path.Combine(TestData.GoldenFolder, "fp8", "quant.safetensors"));
}
