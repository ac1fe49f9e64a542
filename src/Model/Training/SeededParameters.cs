using System.Text;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Training;

/// <summary>
/// Fresh parameters: matrices normal with <c>initializer_range</c>, norm scales one, routing biases zero. Each value
/// depends on the seed, the name and the position alone, so that any owner on any silo draws the same ones.
/// </summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="standardDeviation"><c>initializer_range</c>.</param>
/// <param name="onDevice">
/// Lets the device draw, in parallel: the same values but, on a GPU, for the last bit of one in some hundred million. A
/// training run begins with the host's.
/// </param>
public sealed unsafe class SeededParameters(ulong seed, double standardDeviation, bool onDevice = false)
    : IParameterSource
{
    private const ulong FnvOffset = 0xCBF29CE484222325UL;
    private const ulong FnvPrime = 0x100000001B3UL;

    /// <summary>Values drawn in one go, an even number: below 2 ms, short enough for a pool that others use.</summary>
    private const int PieceLength = 64 << 10;

    /// <inheritdoc/>
    public void Read(string name, TensorShape shape, Span<float> destination)
    {
        if (Constant(name, shape) is { } value)
        {
            destination.Fill(value);
            return;
        }

        fixed (float* values = destination)
        {
            Draw(values, destination.Length, StateOf(name));
        }
    }

    /// <inheritdoc/>
    public void Read(IKernels kernels, string name, Tensor destination)
    {
        if (Constant(name, destination.Shape) is { } value)
        {
            kernels.Fill(destination, value);
        }
        else if (onDevice)
        {
            kernels.FillNormal(destination, StateOf(name), standardDeviation);
        }
        else
        {
            kernels.Write(
                destination, (Source: this, Name: name, destination.Shape),
                static (values, state) => state.Source.Read(state.Name, state.Shape, values));
        }
    }

    /// <summary>The value of a tensor that is not drawn, or null.</summary>
    private static float? Constant(string name, TensorShape shape) =>
        name.EndsWith("e_score_correction_bias", StringComparison.Ordinal) ? 0
        : shape.Rank == 1 ? 1
        : null;

    private ulong StateOf(string name)
    {
        ulong state = FnvOffset ^ seed;
        foreach (byte b in Encoding.UTF8.GetBytes(name))
        {
            state = (state ^ b) * FnvPrime;
        }

        return state;
    }

    /// <summary>
    /// Draws all values. Number n of the sequence depends on n alone, so large tensors are drawn in pieces, on all cores
    /// but one: that one is for whoever answers the cluster.
    /// </summary>
    private void Draw(float* values, int count, ulong state)
    {
        int pieces = Math.Max(1, (count + PieceLength - 1) / PieceLength);
        if (pieces == 1)
        {
            NormalSequence.Draw(new Span<float>(values, count), state, standardDeviation);
            return;
        }

        nint address = (nint)values;
        int cores = Math.Max(1, Environment.ProcessorCount - 1);
        Parallel.For(0, pieces, new() { MaxDegreeOfParallelism = cores }, piece =>
        {
            int start = piece * PieceLength;
            NormalSequence.Draw(
                new Span<float>((float*)address + start, Math.Min(PieceLength, count - start)),
                NormalSequence.Skip(state, start), standardDeviation);
        });
    }
}
