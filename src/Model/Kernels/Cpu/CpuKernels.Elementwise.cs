using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Add, copy, fill and the norm.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    public void Add(Tensor source, Tensor destination)
    {
        KernelChecks.Add(source, destination);
        Parts parts = new(source, source.IsDense && destination.IsDense);
        For(parts.Number, source.Count, new AddLoop(parts, source, destination));
    }

    /// <inheritdoc/>
    public void Copy(Tensor source, Tensor destination)
    {
        KernelChecks.Copy(source, destination);
        Parts parts = new(source, source.IsDense && destination.IsDense);
        For(parts.Number, source.Count, new CopyLoop(parts, source, destination));
    }

    /// <inheritdoc/>
    public void FillNormal(Tensor destination, ulong state, double standardDeviation)
    {
        KernelChecks.FillNormal(destination);
        int parts = checked((int)((destination.Count + PartElements - 1) / PartElements));
        // A value costs as much as some ten of a copy.
        For(parts, 16 * destination.Count, new FillNormalLoop(destination, state, standardDeviation));
    }

    /// <inheritdoc/>
    public void Fill(Tensor destination, float value)
    {
        KernelChecks.Fill(destination);
        Parts parts = new(destination, destination.IsDense);
        For(parts.Number, destination.Count, new FillLoop(parts, destination, value));
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

    private double SumOfSquares(Tensor values)
    {
        Parts parts = new(values, values.IsDense);
        double* partial = (double*)Scratch.Current.Bytes(
            ScratchUse.Partials, Math.Max(1, parts.Number) * (long)sizeof(double));
        For(parts.Number, values.Count, new SquareLoop(parts, values, partial));
        double sum = 0;
        for (int i = 0; i < parts.Number; i++)
        {
            sum += partial[i];
        }

        return sum;
    }

    private readonly struct AddLoop(Parts parts, Tensor source, Tensor destination) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            float* x = source.Floats + parts.Start(index, source.RowStride);
            float* y = destination.Floats + parts.Start(index, destination.RowStride);
            int count = parts.Length(index);
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                int left = count - i;
                VectorMath.Store(VectorMath.Load(y + i, left) + VectorMath.Load(x + i, left), y + i, left);
            }
        }
    }

    private readonly struct CopyLoop(Parts parts, Tensor source, Tensor destination) : ILoop
    {
        public void Run(int index)
        {
            int bytes = source.DType.SizeInBytes();
            byte* from = (byte*)source.Address + (parts.Start(index, source.RowStride) * bytes);
            byte* to = (byte*)destination.Address + (parts.Start(index, destination.RowStride) * bytes);
            int length = parts.Length(index) * bytes;
            new ReadOnlySpan<byte>(from, length).CopyTo(new(to, length));
        }
    }

    private readonly struct FillNormalLoop(Tensor destination, ulong state, double standardDeviation) : ILoop
    {
        public void Run(int index)
        {
            long first = (long)index * PartElements;
            int count = (int)Math.Min(PartElements, destination.Count - first);
            NormalSequence.Draw(new(destination.Floats + first, count), NormalSequence.Skip(state, first), standardDeviation);
        }
    }

    private readonly struct FillLoop(Parts parts, Tensor destination, float value) : ILoop
    {
        public void Run(int index)
        {
            nint start = parts.Start(index, destination.RowStride);
            int count = parts.Length(index);
            if (destination.DType == DType.BFloat16)
            {
                new Span<ushort>((ushort*)destination.Address + start, count).Fill(BFloat16Format.Encode(value));
            }
            else
            {
                new Span<float>(destination.Floats + start, count).Fill(value);
            }
        }
    }

    private readonly struct SquareLoop(Parts parts, Tensor values, double* partial) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            float* x = values.Floats + parts.Start(index, values.RowStride);
            int count = parts.Length(index);
            Vector512<double> low = default;
            Vector512<double> high = default;
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                (Vector512<double> a, Vector512<double> b) = Vector512.Widen(VectorMath.Load(x + i, count - i));
                low += a * a;
                high += b * b;
            }

            Vector512<double> sum = low + high;
            Vector256<double> half = sum.GetLower() + sum.GetUpper();
            partial[index] = half.GetElement(0) + half.GetElement(2) + (half.GetElement(1) + half.GetElement(3));
        }
    }
}
