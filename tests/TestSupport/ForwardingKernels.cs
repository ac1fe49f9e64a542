using System.Buffers;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>Hands every call to other kernels; a derived class changes some of them on the way.</summary>
public abstract class ForwardingKernels(IKernels inner) : IKernels
{
    /// <summary>The kernels that do the work.</summary>
    protected IKernels Inner => inner;

    public virtual string Name => inner.Name;

    public virtual DType BFloat16Storage => inner.BFloat16Storage;

    public virtual void Upload<T>(ReadOnlySpan<T> values, Tensor destination) where T : unmanaged =>
        inner.Upload(values, destination);

    public virtual void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill) =>
        inner.Write(destination, state, fill);

    public virtual ReadOnlySpan<T> Read<T>(Tensor source) where T : unmanaged => inner.Read<T>(source);

    public virtual void Transfer(Tensor source, Tensor destination) => inner.Transfer(source, destination);

    public virtual void AppendTokens(Tensor chosen, Tensor history, Tensor next, Tensor ids, Tensor positions) =>
        inner.AppendTokens(chosen, history, next, ids, positions);

    public virtual void ArgMax(Tensor values, Tensor indices) => inner.ArgMax(values, indices);

    public virtual void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false) =>
        inner.Linear(input, weight, output, accumulate);

    public virtual void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false) =>
        inner.LinearBackwardInput(gradOutput, weight, gradInput, accumulate);

    public virtual void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight) =>
        inner.LinearBackwardWeight(gradOutput, input, gradWeight);

    public virtual void GroupedLinear(ReadOnlySpan<GroupedProduct> products) =>
        inner.GroupedLinear(products);

    public virtual void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products) =>
        inner.GroupedLinearBackwardInput(products);

    public virtual void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products) =>
        inner.GroupedLinearBackwardWeight(products);

    public virtual void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed) =>
        inner.Quantize(source, rows, straight, transposed);

    public virtual void QuantizeMany(ReadOnlySpan<QuantizedCopies> copies) => inner.QuantizeMany(copies);

    public virtual void Requantize(QuantizedTensor source, Tensor room, QuantizedTensor transposed) =>
        inner.Requantize(source, room, transposed);

    public virtual bool MakesTiledGradients => inner.MakesTiledGradients;

    public virtual void SwiGluBackwardTiles(
        Tensor gradOutput, Tensor gate, Tensor up, TileFormat cache, DispatchTable table, in SwiGluTiles result) =>
        inner.SwiGluBackwardTiles(gradOutput, gate, up, cache, table, result);

    public virtual void RequantizeExperts(
        QuantizedTensor source, DispatchTable table, bool gathers, QuantizedTensor transposed) =>
        inner.RequantizeExperts(source, table, gathers, transposed);

    public virtual void CombineExpertsBackwardTiles(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision,
        QuantizedTensor straight, QuantizedTensor transposed, Tensor gradWeights) =>
        inner.CombineExpertsBackwardTiles(
            gradOutput, source, table, weights, precision, straight, transposed, gradWeights);

    public virtual void RmsNormQuantize(
        Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon, QuantizedTensor straight,
        QuantizedTensor transposed, bool keepsOutput = true) =>
        inner.RmsNormQuantize(input, weight, output, inverseRms, epsilon, straight, transposed, keepsOutput);

    public virtual void SwiGluQuantize(
        Tensor gate, Tensor up, Tensor output, QuantizedTensor straight, QuantizedTensor transposed,
        bool keepsOutput = true) =>
        inner.SwiGluQuantize(gate, up, output, straight, transposed, keepsOutput);

    public virtual void Dequantize(QuantizedTensor source, Tensor destination) => inner.Dequantize(source, destination);

    public virtual void RoundToBFloat16(Tensor source, Tensor destination) => inner.RoundToBFloat16(source, destination);

    public virtual void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false) =>
        inner.ScaledLinear(input, weight, output, accumulate);

    public virtual void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products) =>
        inner.GroupedScaledLinear(products);

    public virtual void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon) =>
        inner.RmsNorm(input, weight, output, inverseRms, epsilon);

    public virtual void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false,
        Tensor residual = default) =>
        inner.RmsNormBackwardInput(gradOutput, input, weight, inverseRms, gradInput, accumulate, residual);

    public virtual void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight) =>
        inner.RmsNormBackwardWeight(gradOutput, input, inverseRms, gradWeight);

    public virtual void SwiGlu(Tensor gate, Tensor up, Tensor output) => inner.SwiGlu(gate, up, output);

    public virtual void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp) =>
        inner.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);

    public virtual void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false) =>
        inner.RotaryEmbedding(data, heads, offset, table, positions, inverse);

    public virtual void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention) =>
        inner.Attention(query, keyValue, keyRope, output, logSumExp, attention);

    public virtual void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention) =>
        inner.AttentionBackward(
            gradOutput, query, keyValue, keyRope, output, logSumExp, gradQuery, gradKeyValue, gradKeyRope, attention);

    public virtual void StoreLatents(Tensor latent, Tensor keyRope, in LatentPages pages) =>
        inner.StoreLatents(latent, keyRope, pages);

    public virtual void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention) =>
        inner.AbsorbedAttention(query, upProjection, pages, output, attention);

    public virtual void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing) =>
        inner.Route(logits, bias, scores, indices, weights, routing);

    public virtual void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing) =>
        inner.RouteBackward(gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing);

    public virtual void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore) =>
        inner.BalanceStatistics(scores, indices, sequenceStarts, frequency, meanScore);

    public virtual void PlanDispatch(Tensor indices, DispatchTable table) => inner.PlanDispatch(indices, table);

    public virtual void CombineExperts(
        Tensor source, DispatchTable table, Tensor indices, Tensor weights, int groupSize, DType precision, Tensor output) =>
        inner.CombineExperts(source, table, indices, weights, groupSize, precision, output);

    public virtual void CombineExpertsBackward(
        Tensor gradOutput, Tensor source, DispatchTable table, Tensor weights, DType precision, Tensor gradSource,
        Tensor gradWeights) => inner.CombineExpertsBackward(
            gradOutput, source, table, weights, precision, gradSource, gradWeights);

    public virtual void QuantizeExperts(
        Tensor source, DispatchTable table, bool gathers, QuantizedTensor straight, QuantizedTensor transposed) =>
        inner.QuantizeExperts(source, table, gathers, straight, transposed);

    public virtual void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false) =>
        inner.SumRows(source, rows, scale, starts, output, accumulate);

    public virtual void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output) =>
        inner.GatherRows(source, rows, scale, output);

    public virtual void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output) =>
        inner.DotRows(left, leftRows, right, rightRows, output);

    public virtual void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable) =>
        inner.EmbeddingBackward(gradOutput, ids, gradTable);

    public virtual void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale) =>
        inner.CrossEntropy(logits, targets, losses, gradScale);

    public virtual void CrossEntropyRounded(
        Tensor logits, Tensor targets, Tensor losses, float gradScale, Tensor gradients) =>
        inner.CrossEntropyRounded(logits, targets, losses, gradScale, gradients);

    public virtual void Add(Tensor source, Tensor destination) => inner.Add(source, destination);

    public virtual void Copy(Tensor source, Tensor destination) => inner.Copy(source, destination);

    public virtual void FillNormal(Tensor destination, ulong state, double standardDeviation) =>
        inner.FillNormal(destination, state, standardDeviation);

    public virtual void Fill(Tensor destination, float value) => inner.Fill(destination, value);

    public virtual void SumsOfSquares(ReadOnlySpan<Tensor> values, Span<double> sums) => inner.SumsOfSquares(values, sums);

    public virtual void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step) =>
        inner.AdamW(parameters, step);
}
