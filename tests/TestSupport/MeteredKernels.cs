using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>Counts the multiply-adds of matrix products on their way to the real kernels; everything else is free.</summary>
/// <param name="inner">The real kernels.</param>
/// <param name="storage">What rounded operands are kept in, where it is not what the real kernels want.</param>
internal sealed class MeteredKernels(IKernels inner, DType? storage = null) : IKernels
{
    /// <summary>Multiply-adds so far.</summary>
    public long MultiplyAdds { get; private set; }

    public string Name => inner.Name;

    public DType BFloat16Storage => storage ?? inner.BFloat16Storage;

    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        MultiplyAdds += input.Rows * weight.Count;
        inner.Linear(input, weight, output, accumulate);
    }

    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        MultiplyAdds += gradOutput.Rows * weight.Count;
        inner.LinearBackwardInput(gradOutput, weight, gradInput, accumulate);
    }

    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        MultiplyAdds += gradOutput.Rows * gradWeight.Count;
        inner.LinearBackwardWeight(gradOutput, input, gradWeight);
    }

    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        inner.GroupedLinear(products);
    }

    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        inner.GroupedLinearBackwardInput(products);
    }

    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        Count(products);
        inner.GroupedLinearBackwardWeight(products);
    }

    public void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed) =>
        inner.Quantize(source, rows, straight, transposed);

    public void Dequantize(QuantizedTensor source, Tensor destination) => inner.Dequantize(source, destination);

    public void RoundToBFloat16(Tensor source, Tensor destination) => inner.RoundToBFloat16(source, destination);

    public void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false)
    {
        MultiplyAdds += input.Rows * weight.Codes.Count;
        inner.ScaledLinear(input, weight, output, accumulate);
    }

    public void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products)
    {
        foreach (ref readonly ScaledProduct product in products)
        {
            MultiplyAdds += product.Output.Rows * product.Weight.Codes.Count;
        }

        inner.GroupedScaledLinear(products);
    }

    public void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon) =>
        inner.RmsNorm(input, weight, output, inverseRms, epsilon);

    public void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false) =>
        inner.RmsNormBackwardInput(gradOutput, input, weight, inverseRms, gradInput, accumulate);

    public void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight) =>
        inner.RmsNormBackwardWeight(gradOutput, input, inverseRms, gradWeight);

    public void SwiGlu(Tensor gate, Tensor up, Tensor output) => inner.SwiGlu(gate, up, output);

    public void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp) =>
        inner.SwiGluBackward(gradOutput, gate, up, gradGate, gradUp);

    public void RotaryEmbedding(
        Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false) =>
        inner.RotaryEmbedding(data, heads, offset, table, positions, inverse);

    public void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention) =>
        inner.Attention(query, keyValue, keyRope, output, logSumExp, attention);

    public void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention) =>
        inner.AttentionBackward(
            gradOutput, query, keyValue, keyRope, output, logSumExp, gradQuery, gradKeyValue, gradKeyRope, attention);

    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, Tensor cache, int firstPosition, Tensor output, in AttentionShape attention) =>
        inner.AbsorbedAttention(query, upProjection, cache, firstPosition, output, attention);

    public void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing) =>
        inner.Route(logits, bias, scores, indices, weights, routing);

    public void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing) =>
        inner.RouteBackward(gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing);

    public void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore) =>
        inner.BalanceStatistics(scores, indices, sequenceStarts, frequency, meanScore);

    public void SumRows(
        Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false) =>
        inner.SumRows(source, rows, scale, starts, output, accumulate);

    public void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output) =>
        inner.GatherRows(source, rows, scale, output);

    public void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output) =>
        inner.DotRows(left, leftRows, right, rightRows, output);

    public void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable) =>
        inner.EmbeddingBackward(gradOutput, ids, gradTable);

    public void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale) =>
        inner.CrossEntropy(logits, targets, losses, gradScale);

    public void Add(Tensor source, Tensor destination) => inner.Add(source, destination);

    public void Copy(Tensor source, Tensor destination) => inner.Copy(source, destination);

    public void Fill(Tensor destination, float value) => inner.Fill(destination, value);

    public double SumOfSquares(Tensor values) => inner.SumOfSquares(values);

    public void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step) => inner.AdamW(parameters, step);

    private void Count(ReadOnlySpan<GroupedProduct> products)
    {
        foreach (GroupedProduct product in products)
        {
            MultiplyAdds += product.Output.Rows * product.Weight.Count;
        }
    }
}
