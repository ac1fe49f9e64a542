using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>
/// Looks at the values of index tensors, whose shapes were checked before, wherever they lie: on the host at once, on
/// a GPU by a kernel ahead of the one that uses them.
/// </summary>
internal interface IIndexChecks
{
    /// <summary>Every value of a vector names a row below <paramref name="limit"/>.</summary>
    /// <param name="rows">Contiguous Int32 [n].</param>
    /// <param name="limit">Number of rows that the values may name.</param>
    /// <param name="allowNegative">Negative values mean "none" and pass.</param>
    /// <param name="name">Of the argument.</param>
    void RowNumbers(Tensor rows, int limit, bool allowNegative, string name);

    /// <summary>Every value of <paramref name="indices"/>, Int32 [T, K], names one of E experts.</summary>
    void Experts(Tensor indices, int experts);

    /// <summary>Offsets, Int32 [S + 1], from 0 to <paramref name="total"/>, none below the one before.</summary>
    void Starts(Tensor starts, int total, string name);
}
