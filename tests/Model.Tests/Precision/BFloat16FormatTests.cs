using Krewe.Model.Checkpoints;
using Krewe.Model.Precision;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Precision;

public sealed class BFloat16FormatTests
{
    [Fact]
    public void Rounds_as_PyTorch()
    {
        using var golden = SafetensorsFile.Open(Path.Combine(TestData.GoldenFolder, "fp8", "quant.safetensors"));
        float[] input = golden.ReadFloat32("round_in");
        ushort[] expected = golden.ReadArray<ushort>("round_bf16");
        Assert.Equal(expected, input.Select(BFloat16Format.Encode));
        ushort[] vectorised = new ushort[input.Length];
        BFloat16Format.Encode(input, vectorised);
        Assert.Equal(expected, vectorised);
    }

    [Fact]
    public void Every_length_agrees_with_the_single_form()
    {
        Random random = new(7);
        for (int length = 0; length <= 256; length++)
        {
            float[] values = [.. Enumerable.Range(0, length).Select(_ => BitConverter.Int32BitsToSingle(random.Next()))];
            ushort[] codes = new ushort[length];
            BFloat16Format.Encode(values, codes);
            Assert.Equal(values.Select(BFloat16Format.Encode), codes);
            float[] decoded = new float[length];
            BFloat16Format.Decode(codes, decoded);
            Assert.Equal(codes.Select(BFloat16Format.Decode), decoded);
        }
    }

    [Fact]
    public void Every_code_survives_decoding_and_encoding()
    {
        for (int code = 0; code <= 0xFFFF; code++)
        {
            float value = BFloat16Format.Decode((ushort)code);
            Assert.Equal(float.IsNaN(value) ? 0x7FC0 : code, BFloat16Format.Encode(value));
        }
    }

    [Fact]
    public void A_short_destination_is_refused()
    {
        Assert.Throws<ArgumentException>(() => BFloat16Format.Encode(new float[3], new ushort[2]));
        Assert.Throws<ArgumentException>(() => BFloat16Format.Decode(new ushort[3], new float[2]));
    }
}
