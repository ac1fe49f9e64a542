using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>What steps of decoding hand on to the next without the host.</content>
public partial interface IKernels
{
    /// <summary>
    /// Makes the inputs of the next step of decoding from the tokens that one has chosen: history[next] = chosen, ids =
    /// chosen, positions += 1, next += 1. Where the history is full it stays as it is.
    /// </summary>
    /// <param name="chosen">[S] Int32.</param>
    /// <param name="history">[N, S] Int32, dense; row next[0] is overwritten.</param>
    /// <param name="next">[1] Int32: rows of the history that are filled; raised.</param>
    /// <param name="ids">[S] Int32; overwritten.</param>
    /// <param name="positions">[S] Int32; raised.</param>
    void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions);
}
