using System.Text;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Xunit;

namespace Krewe.Model.Tests.Training;

/// <summary>Values depend on seed, name and place alone, however many cores draw them.</summary>
public class SeededParametersTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 5)]
    [InlineData(256, 256)]
    [InlineData(257, 511)]
    [InlineData(300, 1001)]
    [InlineData(2000, 1500)]
    public void Pieces_give_the_values_of_one_sequence(int rows, int columns)
    {
        const string name = "model.layers.3.mlp.experts.7.up_proj.weight";
        float[] values = new float[rows * columns];
        new SeededParameters(42, 0.02).Read(name, new(rows, columns), values);

        float[] expected = new float[values.Length];
        ulong state = 0xCBF29CE484222325UL ^ 42;
        foreach (byte b in Encoding.UTF8.GetBytes(name))
        {
            state = (state ^ b) * 0x100000001B3UL;
        }

        for (int i = 0; i < expected.Length; i += 2)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - Next(ref state)));
            double angle = 2 * Math.PI * Next(ref state);
            expected[i] = (float)(0.02 * radius * Math.Cos(angle));
            if (i + 1 < expected.Length)
            {
                expected[i + 1] = (float)(0.02 * radius * Math.Sin(angle));
            }
        }

        Assert.Equal(expected, values);
    }

    [Fact]
    public void Norms_are_one_and_biases_zero()
    {
        float[] values = [5, 5];
        new SeededParameters(1, 0.02).Read("model.norm.weight", new(2), values);
        Assert.Equal([1, 1], values);
        new SeededParameters(1, 0.02).Read("model.layers.1.mlp.gate.e_score_correction_bias", new(2), values);
        Assert.Equal([0, 0], values);
    }

    private static double Next(ref ulong state)
    {
        state += 0x9E3779B97F4A7C15UL;
        ulong z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return ((z ^ (z >> 31)) >> 11) / (double)(1UL << 53);
    }
}
