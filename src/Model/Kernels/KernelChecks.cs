using System.Runtime.CompilerServices;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>
/// Argument checks shared by the backends. Every check runs before the first write and allocates nothing unless it
/// throws; this file holds the primitives, the other parts one check for each kernel of <see cref="IKernels"/>.
/// </summary>
internal static unsafe partial class KernelChecks
{
    /// <summary>A float32 matrix of this many rows and columns; rows may have gaps.</summary>
    internal static void Matrix(
        Tensor tensor, int rows, int columns, [CallerArgumentExpression(nameof(tensor))] string name = "")
        => Matrix(tensor, rows, columns, DType.Float32, name);

    /// <summary>A matrix of this many rows, columns and this element type; rows may have gaps.</summary>
    internal static void Matrix(Tensor tensor, int rows, int columns, DType dtype, string name)
    {
        if (tensor.DType != dtype || tensor.Rows != rows || tensor.Columns != columns)
        {
            ThrowShape(name, new TensorShape(rows, columns), dtype, tensor);
        }

        if (tensor.Address == 0 && tensor.Count > 0)
        {
            throw new ArgumentException($"{name}: expected {tensor} with memory, got address 0", name);
        }
    }

    /// <summary>A contiguous float32 vector of this length.</summary>
    internal static void Vector(
        Tensor tensor, int count, [CallerArgumentExpression(nameof(tensor))] string name = "")
        => Vector(tensor, count, DType.Float32, name);

    /// <summary>A contiguous Int32 vector of this length.</summary>
    internal static void Ints(Tensor tensor, int count, [CallerArgumentExpression(nameof(tensor))] string name = "")
        => Vector(tensor, count, DType.Int32, name);

    /// <summary>A contiguous Int32 vector of this length whose values lie below <paramref name="limit"/>.</summary>
    /// <param name="tensor">The vector.</param>
    /// <param name="count">Its length.</param>
    /// <param name="limit">Number of rows that the values may name.</param>
    /// <param name="values">Who looks at the values.</param>
    /// <param name="allowNegative">Negative values mean "none" and pass.</param>
    /// <param name="name">Of the argument.</param>
    internal static void RowNumbers(
        Tensor tensor, int count, int limit, IIndexChecks? values, bool allowNegative = false,
        [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        Ints(tensor, count, name);
        (values ?? HostIndexChecks.Instance).RowNumbers(tensor, limit, allowNegative, name);
    }

    /// <summary>S + 1 offsets from 0 to <paramref name="tokens"/>, none below the one before.</summary>
    internal static void Starts(
        ReadOnlySpan<int> starts, int tokens, [CallerArgumentExpression(nameof(starts))] string name = "")
    {
        if (starts.Length == 0 || starts[0] != 0 || starts[^1] != tokens)
        {
            string actual = starts.Length == 0 ? "nothing" : $"{starts[0]}..{starts[^1]}";
            throw new ArgumentException(IndexFaults.Span(name, tokens, actual), name);
        }

        for (int i = 1; i < starts.Length; i++)
        {
            if (starts[i] < starts[i - 1])
            {
                throw new ArgumentException(IndexFaults.Offset(name, i, starts[i - 1], starts[i]), name);
            }
        }
    }

    private static void Vector(Tensor tensor, int count, DType dtype, string name)
    {
        if (tensor.DType != dtype || tensor.Count != count)
        {
            ThrowShape(name, new TensorShape(count), dtype, tensor);
        }

        if (count > 0 && (tensor.Address == 0 || (tensor.Rows > 1 && !tensor.IsDense)))
        {
            throw new ArgumentException(
                $"{name}: expected {count} contiguous values, got {tensor} with row stride {tensor.RowStride}", name);
        }
    }

    private static void ThrowShape(string name, TensorShape expected, DType dtype, Tensor actual)
        => throw new ArgumentException($"{name}: expected {dtype}{expected}, got {actual}", name);
}
