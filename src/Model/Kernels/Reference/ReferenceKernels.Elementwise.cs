using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Reference;

/// <content>Add, copy, fill and the norm.</content>
public sealed unsafe partial class ReferenceKernels
{
    /// <inheritdoc/>
    public void Add(Tensor source, Tensor destination)
    {
        KernelChecks.Add(source, destination);
        for (int m = 0; m < source.Rows; m++)
        {
            Span<float> x = source.Row(m);
            Span<float> y = destination.Row(m);
            for (int d = 0; d < x.Length; d++)
            {
                y[d] += x[d];
            }
        }
    }

    /// <inheritdoc/>
    public void Copy(Tensor source, Tensor destination)
    {
        KernelChecks.Copy(source, destination);
        int bytes = source.DType.SizeInBytes();
        for (int m = 0; m < source.Rows; m++)
        {
            byte* from = (byte*)source.Address + ((nint)m * source.RowStride * bytes);
            byte* to = (byte*)destination.Address + ((nint)m * destination.RowStride * bytes);
            new Span<byte>(from, source.Columns * bytes).CopyTo(new(to, source.Columns * bytes));
        }
    }

    /// <inheritdoc/>
    public void FillNormal(Tensor destination, ulong state, double standardDeviation)
    {
        KernelChecks.FillNormal(destination);
        int columns = destination.Columns;
        Span<float> pair = stackalloc float[2];
        for (int m = 0; m < destination.Rows; m++)
        {
            Span<float> row = destination.Row(m);
            for (int d = 0; d < columns; d++)
            {
                // Each value from the pair that it is of.
                long index = ((long)m * columns) + d;
                NormalSequence.Draw(pair, NormalSequence.Skip(state, index - (index % 2)), standardDeviation);
                row[d] = pair[(int)(index % 2)];
            }
        }
    }

    /// <inheritdoc/>
    public void Fill(Tensor destination, float value)
    {
        KernelChecks.Fill(destination);
        for (int m = 0; m < destination.Rows; m++)
        {
            if (destination.DType == DType.BFloat16)
            {
                BFloat16Row(destination, m).Fill(BFloat16Format.Encode(value));
            }
            else
            {
                destination.Row(m).Fill(value);
            }
        }
    }

    /// <inheritdoc/>
    public void SumsOfSquares(ReadOnlySpan<Tensor> values, Span<double> sums)
    {
        KernelChecks.SumsOfSquares(values, sums);
        for (int i = 0; i < values.Length; i++)
        {
            sums[i] = SumOfSquares(values[i]);
        }
    }

    private static double SumOfSquares(Tensor values)
    {
        double sum = 0;
        for (int m = 0; m < values.Rows; m++)
        {
            foreach (float value in values.Row(m))
            {
                sum += (double)value * value;
            }
        }

        return sum;
    }
}
