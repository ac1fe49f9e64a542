using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <content>Low precision: quantised matrices and their products (report 3.3).</content>
public partial interface IKernels
{
    /// <summary>
    /// Quantises a matrix, its transpose, or both at once: per tile scale = max|x| / largest element, code = nearest
    /// element to x / scale. A tile of the transpose runs along the rows of the source: 1x128 of the transpose is 128x1.
    /// </summary>
    /// <param name="source">[R, D].</param>
    /// <param name="rows">Int32 [M]: which rows of the source, or empty for all.</param>
    /// <param name="straight">[M, D] in tiles of its format; or empty.</param>
    /// <param name="transposed">[D, M] in tiles of its format; or empty.</param>
    void Quantize(Tensor source, Tensor rows, QuantizedTensor straight, QuantizedTensor transposed);

    /// <summary><see cref="Quantize"/> of many matrices, of weights after a step: the same bits, in few launches.</summary>
    /// <param name="copies">Sources and where their tiles go.</param>
    void QuantizeMany(ReadOnlySpan<QuantizedCopies> copies)
    {
        foreach (ref readonly QuantizedCopies copy in copies)
        {
            Quantize(copy.Source, default, copy.Straight, copy.Transposed);
        }
    }

    /// <summary>
    /// <see cref="RmsNorm"/>, then <see cref="Quantize"/> of its output: the bits of both, in one pass where the backend
    /// has one.
    /// </summary>
    /// <param name="input">[M, D].</param>
    /// <param name="weight">[D].</param>
    /// <param name="output">[M, D]; overwritten, or unspecified afterwards where it is not kept.</param>
    /// <param name="inverseRms">[M]; overwritten.</param>
    /// <param name="epsilon">Added to the mean of squares.</param>
    /// <param name="straight">[M, D] in tiles of its format; or empty.</param>
    /// <param name="transposed">[D, M] in tiles of its format; or empty.</param>
    /// <param name="keepsOutput">False where only the tiles are read: then a pass that fuses writes nothing else.</param>
    void RmsNormQuantize(
        Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon, QuantizedTensor straight,
        QuantizedTensor transposed, bool keepsOutput = true)
    {
        RmsNorm(input, weight, output, inverseRms, epsilon);
        Quantize(output, default, straight, transposed);
    }

    /// <summary>
    /// <see cref="SwiGlu"/>, then <see cref="Quantize"/> of its output: the bits of both, in one pass where the backend
    /// has one.
    /// </summary>
    /// <param name="gate">[M, F].</param>
    /// <param name="up">[M, F].</param>
    /// <param name="output">[M, F]; overwritten, or unspecified afterwards where it is not kept.</param>
    /// <param name="straight">[M, F] in tiles of its format; or empty.</param>
    /// <param name="transposed">[F, M] in tiles of its format; or empty.</param>
    /// <param name="keepsOutput">False where only the tiles are read: then a pass that fuses writes nothing else.</param>
    void SwiGluQuantize(
        Tensor gate, Tensor up, Tensor output, QuantizedTensor straight, QuantizedTensor transposed,
        bool keepsOutput = true)
    {
        SwiGlu(gate, up, output);
        Quantize(output, default, straight, transposed);
    }

    /// <summary>destination = codes * scales, elementwise.</summary>
    /// <param name="source">[M, D].</param>
    /// <param name="destination">[M, D]; overwritten.</param>
    void Dequantize(QuantizedTensor source, Tensor destination);

    /// <summary>
    /// <see cref="Dequantize"/>, then <see cref="Quantize"/> of its transpose: the bits of both, in one pass where the
    /// backend has one.
    /// </summary>
    /// <param name="source">[M, D].</param>
    /// <param name="room">[M, D] Float32; unspecified afterwards.</param>
    /// <param name="transposed">[D, M] in tiles of its format.</param>
    void Requantize(QuantizedTensor source, Tensor room, QuantizedTensor transposed)
    {
        Dequantize(source, room);
        Quantize(room, default, default, transposed);
    }

    /// <summary>destination = source rounded to bfloat16, ties to even; may be in place.</summary>
    /// <param name="source">[M, D].</param>
    /// <param name="destination">[M, D] BFloat16, or Float32, where the values are widened again.</param>
    void RoundToBFloat16(Tensor source, Tensor destination);

    /// <summary>
    /// output[M, N] = input[M, D] weight[N, D]^T of quantised operands. Every slice of D under one pair of scales is one
    /// chain of fused multiply-adds over the codes from 0; then output = fma(chain, input scale * weight scale, output),
    /// slices in rising order: the promotion of report 3.3.2, every 128 elements, or 32 under microscaling.
    /// </summary>
    /// <remarks>
    /// All three products of a Linear are this one, since a tensor core wants both operands along D: the data gradient
    /// takes the transposed weight, the weight gradient both operands transposed and accumulates.
    /// </remarks>
    /// <param name="input">[M, D], FP8, tiles as wide as the weight's.</param>
    /// <param name="weight">[N, D], FP8.</param>
    /// <param name="output">[M, N]; overwritten, or added to.</param>
    /// <param name="accumulate">The sums begin at the old <paramref name="output"/>.</param>
    void ScaledLinear(QuantizedTensor input, QuantizedTensor weight, Tensor output, bool accumulate = false);

    /// <summary>
    /// Many products in one launch: each item as <see cref="ScaledLinear"/>, with an optional row gather of the input.
    /// </summary>
    void GroupedScaledLinear(ReadOnlySpan<ScaledProduct> products);
}
