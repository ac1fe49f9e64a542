using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>
/// Seeded tensors in host memory. Gaps between rows and a guard behind the last one hold NaN (Int32: -1): a kernel that
/// reads them spoils its result, and <see cref="Whole"/> lets a test see whether one wrote there.
/// </summary>
/// <param name="seed">Of the values.</param>
public sealed unsafe class TestTensors(int seed) : IDisposable
{
    private const int GuardElements = 64;

    private readonly HostArena _arena = new("test data");
    private readonly Random _random = new(seed);

    /// <summary>Standard normal values times <paramref name="scale"/>.</summary>
    public Tensor Normal(int rows, int columns, float scale = 1, int gap = 0)
        => Normal(Garbage(rows, columns, gap: gap), scale);

    /// <summary>Standard normal values as Float32 or rounded to BFloat16.</summary>
    public Tensor Normal(DType dtype, int rows, int columns, int gap = 0)
    {
        Tensor values = Normal(rows, columns, gap: gap);
        if (dtype == DType.Float32)
        {
            return values;
        }

        Tensor rounded = Garbage(rows, columns, dtype, gap);
        for (int row = 0; row < rows; row++)
        {
            BFloat16Format.Encode(
                values.Row(row), new((ushort*)rounded.Address + ((nint)row * rounded.RowStride), columns));
        }

        return rounded;
    }

    /// <summary>A vector of standard normal values times <paramref name="scale"/>.</summary>
    public Tensor NormalVector(int count, float scale = 1) => Normal(GarbageVector(count), scale);

    /// <summary>NaN (Int32: -1) everywhere: for what a kernel must overwrite.</summary>
    public Tensor Garbage(int rows, int columns, DType dtype = DType.Float32, int gap = 0)
        => Garbage(_arena, new(rows, columns), dtype, columns + gap);

    /// <summary>A vector of NaN (Int32: -1).</summary>
    public Tensor GarbageVector(int count, DType dtype = DType.Float32)
        => Garbage(_arena, new(count), dtype, count);

    /// <summary>The same value everywhere.</summary>
    public Tensor Filled(int rows, int columns, float value, int gap = 0)
    {
        Tensor tensor = Garbage(rows, columns, gap: gap);
        for (int row = 0; row < rows; row++)
        {
            tensor.Row(row).Fill(value);
        }

        return tensor;
    }

    /// <summary>These values.</summary>
    public Tensor Vector(params ReadOnlySpan<float> values)
    {
        Tensor tensor = GarbageVector(values.Length);
        values.CopyTo(tensor.AsSpan<float>());
        return tensor;
    }

    /// <summary>These integers.</summary>
    public Tensor Ints(params ReadOnlySpan<int> values)
    {
        Tensor tensor = GarbageVector(values.Length, DType.Int32);
        values.CopyTo(tensor.AsSpan<int>());
        return tensor;
    }

    /// <summary>Integers drawn evenly from [<paramref name="low"/>, <paramref name="high"/>).</summary>
    public Tensor RandomInts(int count, int low, int high)
    {
        Tensor tensor = GarbageVector(count, DType.Int32);
        foreach (ref int value in tensor.AsSpan<int>())
        {
            value = _random.Next(low, high);
        }

        return tensor;
    }

    /// <summary>A number drawn evenly from [<paramref name="low"/>, <paramref name="high"/>).</summary>
    public int Next(int low, int high) => _random.Next(low, high);

    /// <summary>Everything that belongs to a tensor made here or by <see cref="Twin"/>: rows, gaps and guard.</summary>
    public static Tensor Whole(Tensor tensor)
        => new(tensor.Address, new TensorShape((tensor.Rows * tensor.RowStride) + GuardElements), tensor.DType);

    /// <summary>An uninitialised tensor of the same layout, guard included, from another arena.</summary>
    public static Tensor Twin(Tensor tensor, Arena arena)
    {
        if (tensor.IsEmpty)
        {
            return default;
        }

        Tensor whole = arena.Allocate(Whole(tensor).Shape, tensor.DType);
        return new(whole.Address, tensor.Shape, tensor.DType, tensor.RowStride);
    }

    /// <summary>Takes all tensors back.</summary>
    public void Reset() => _arena.Reset();

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private static Tensor Garbage(HostArena arena, TensorShape shape, DType dtype, int rowStride)
    {
        Tensor tensor = arena.Allocate(new TensorShape((shape.Rows * rowStride) + GuardElements), dtype);
        new Span<byte>((void*)tensor.Address, (int)tensor.Count * dtype.SizeInBytes()).Fill(0xFF);
        return new(tensor.Address, shape, dtype, rowStride);
    }

    private Tensor Normal(Tensor tensor, float scale)
    {
        for (int row = 0; row < tensor.Rows; row++)
        {
            foreach (ref float value in tensor.Row(row))
            {
                // Box-Muller.
                double radius = Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble()));
                value = scale * (float)(radius * Math.Cos(2 * Math.PI * _random.NextDouble()));
            }
        }

        return tensor;
    }
}
