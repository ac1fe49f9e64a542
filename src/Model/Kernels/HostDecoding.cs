using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>The decoding calls of <see cref="IKernels"/> where kernels compute in host memory.</summary>
internal static class HostDecoding
{
    /// <summary>As AppendTokens of the contract.</summary>
    public static void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions)
    {
        KernelChecks.AppendTokens(chosen, history, next, ids, positions);
        ReadOnlySpan<int> tokens = chosen.AsSpan<int>();
        int row = next.AsSpan<int>()[0]++;
        if (row >= 0 && row < history.Rows)
        {
            tokens.CopyTo(history.SliceRows(row, 1).AsSpan<int>());
        }

        tokens.CopyTo(ids.AsSpan<int>());
        foreach (ref int position in positions.AsSpan<int>())
        {
            position++;
        }
    }
}
