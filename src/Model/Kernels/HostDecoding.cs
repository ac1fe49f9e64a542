using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>The decoding calls of <see cref="IKernels"/> where kernels compute in host memory.</summary>
internal static unsafe class HostDecoding
{
    /// <summary>As AppendTokens of the contract.</summary>
    public static void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions)
    {
        KernelChecks.AppendTokens(chosen, history, next, ids, positions);
        ReadOnlySpan<int> tokens = Values(chosen);
        int row = Values(next)[0]++;
        if (row >= 0 && row < history.Rows)
        {
            tokens.CopyTo(Values(history).Slice(row * history.Columns, history.Columns));
        }

        tokens.CopyTo(Values(ids));
        foreach (ref int position in Values(positions))
        {
            position++;
        }
    }

    private static Span<int> Values(Tensor tensor) => new((void*)tensor.Address, checked((int)tensor.Count));
}
