using System.Runtime.CompilerServices;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Checks of the transfers.</content>
internal static unsafe partial class KernelChecks
{
    /// <summary>No gaps between rows.</summary>
    internal static void Dense(Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Rows > 1 && !tensor.IsDense)
        {
            throw new ArgumentException($"{name}: expected dense rows, got {tensor} with row stride {tensor.RowStride}", name);
        }
    }

    internal static void Upload(long bytes, Tensor destination)
    {
        Dense(destination);
        if (bytes != destination.Bytes)
        {
            throw new ArgumentException($"values: expected {destination.Bytes} bytes for {destination}, got {bytes}", nameof(bytes));
        }
    }

    internal static void Transfer(Tensor source, Tensor destination)
    {
        Dense(source);
        Dense(destination);
        if (source.Bytes != destination.Bytes)
        {
            throw new ArgumentException($"destination: expected {source.Bytes} bytes as of {source}, got {destination}", nameof(destination));
        }
    }

    internal static void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions)
    {
        int sequences = history.Columns;
        Ints(chosen, sequences);
        Dense(history);
        Ints(next, 1);
        Ints(ids, sequences);
        Ints(positions, sequences);
        if (history.DType != DType.Int32)
        {
            throw new ArgumentException($"history: expected Int32, got {history}", nameof(history));
        }
    }

    internal static void ArgMax(Tensor values, Tensor indices)
    {
        Matrix(values, values.Rows, values.Columns);
        Ints(indices, values.Rows);
    }
}
