using System.Runtime.Intrinsics;
using Krewe.Model.Kernels.Cpu;
using Xunit;

namespace Krewe.Model.Tests.Kernels.Cpu;

public sealed unsafe class VectorMathTests
{
    [Fact]
    public void Exp_is_within_two_units_in_the_last_place()
    {
        double worst = 0;
        for (float x = -87; x < 88.7f; x += 0.00137f)
        {
            double expected = Math.Exp(x);
            double unit = MathF.BitIncrement((float)expected) - (float)expected;
            worst = Math.Max(worst, Math.Abs(VectorMath.Exp(x) - expected) / unit);
        }

        Assert.InRange(worst, 0, 2);
    }

    [Theory]
    [InlineData(0f, 1f)]
    [InlineData(float.NegativeInfinity, 0f)]
    [InlineData(-200f, 0f)]
    [InlineData(float.PositiveInfinity, float.PositiveInfinity)]
    [InlineData(89f, float.PositiveInfinity)]
    [InlineData(float.NaN, float.NaN)]
    public void Exp_at_the_ends(float x, float expected) => Assert.Equal(expected, VectorMath.Exp(x));

    [Fact]
    public void Exp_has_subnormal_results()
    {
        for (float x = -103; x < -87.4f; x += 0.01f)
        {
            Assert.InRange(VectorMath.Exp(x) - Math.Exp(x), -2 * float.Epsilon, 2 * float.Epsilon);
        }
    }

    [Fact]
    public void Parts_of_a_vector_touch_nothing_else()
    {
        float* data = stackalloc float[48];
        for (int left = 1; left <= 20; left++)
        {
            new Span<float>(data, 48).Fill(float.NaN);
            new Span<float>(data + 16, left).Fill(1);
            Vector512<float> loaded = VectorMath.Load(data + 16, left);
            Assert.Equal(Math.Min(left, 16), VectorMath.Sum(loaded));
            VectorMath.Store(loaded * 2, data + 16, left);
            for (int i = 0; i < 48; i++)
            {
                float expected = i < 16 || i >= 16 + left ? float.NaN : i < 32 ? 2 : 1;
                Assert.Equal(expected, data[i]);
            }
        }
    }

    [Fact]
    public void Sums_of_every_length_count_each_value_once()
    {
        float* ones = stackalloc float[256];
        for (int count = 0; count < 256; count++)
        {
            new Span<float>(ones, 256).Fill(float.NaN);
            new Span<float>(ones, count).Fill(1);
            Assert.Equal(count, VectorMath.Dot(ones, ones, count));
            Assert.Equal(count == 0 ? float.NegativeInfinity : 1, VectorMath.Max(ones, count));
            Assert.Equal(count, VectorMath.ExpSum(ones, count, 1, 1));
        }
    }
}
