using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>
/// Dispatch and combine of experts that all live on this device: sizes stay on it, nobody waits (docs/decisions/0015).
/// </content>
public partial interface IKernels
{
    /// <summary>Sorts the assignments of a layer by expert, tokens of an expert in order.</summary>
    /// <param name="indices">[T, K] Int32, as <see cref="Route"/> wrote them: values are not checked.</param>
    /// <param name="table">Of T tokens, K choices and E experts; overwritten.</param>
    void PlanDispatch(Tensor indices, DispatchTable table);

    /// <summary>
    /// Adds the experts' results to the tokens, along the fixed reduction tree: output[t] += sum over the token's groups, in
    /// rising order, of round(sum over the group's experts, in rising order, of weight * round(source[assignment])). The
    /// first term of an inner sum is a product, each later one a fused multiply-add.
    /// </summary>
    /// <param name="source">[A, D]: a row for each assignment.</param>
    /// <param name="table">As <see cref="PlanDispatch"/> made it.</param>
    /// <param name="indices">[T, K] Int32, rising, as given to <see cref="PlanDispatch"/>.</param>
    /// <param name="weights">[T, K], or empty for plain sums.</param>
    /// <param name="groupSize">Experts of a canonical group.</param>
    /// <param name="precision">What rows and sums of groups are rounded to: Float32 (not at all) or BFloat16.</param>
    /// <param name="output">[T, D]; added to.</param>
    void CombineExperts(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, DType precision, Tensor output);

    /// <summary>
    /// Gradients of <see cref="CombineExperts"/> with weights, before the rows travelled: gradSource[a] = weight *
    /// gradOutput[token], gradWeights[t, k] = dot(round(source[a]), gradOutput[t]) as <see cref="DotRows"/> has it.
    /// </summary>
    /// <param name="gradOutput">[T, D].</param>
    /// <param name="source">[A, D], as given to the forward.</param>
    /// <param name="table">As given to the forward.</param>
    /// <param name="weights">[T, K].</param>
    /// <param name="precision">As given to the forward.</param>
    /// <param name="gradSource">[A, D] Float32, or BFloat16, which takes the nearest value.</param>
    /// <param name="gradWeights">[T, K].</param>
    void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights);

    /// <summary>
    /// As <see cref="Quantize"/> of each expert's rows by themselves: tiles along the tokens hold one expert's. Expert e has
    /// the columns <see cref="DispatchTable.ColumnsOf"/> of the transpose; those without a token are zero, and what lies
    /// behind the last expert's is unspecified.
    /// </summary>
    /// <param name="source">[A, D], or [T, D] where rows are gathered.</param>
    /// <param name="table">As <see cref="PlanDispatch"/> made it.</param>
    /// <param name="gathers">True where the source has a row for each token instead of each assignment.</param>
    /// <param name="straight">[A, D] in tiles of one row, 32 or 128 wide; or empty.</param>
    /// <param name="transposed">
    /// [D, <see cref="DispatchTable.TurnedColumns"/>] in tiles of one row, 32 or 128 wide; or empty.
    /// </param>
    void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed);
}
