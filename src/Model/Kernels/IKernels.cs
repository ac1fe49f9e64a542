using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>
/// The contract of every backend: <c>Reference</c> (scalar, readable: the oracle), <c>Cpu</c> (SIMD) and
/// CUDA. One <c>KernelContract</c> test suite is bound to each.
/// </summary>
/// <remarks>
/// <para>Letters: T tokens, D hidden, F expert width, E experts, K top-k, H heads, V vocabulary, N outputs, M rows
/// (docs/notation.md). All tensors are float32 and row-major unless said otherwise; a row stride is honoured wherever a
/// two-dimensional tensor is taken.</para>
/// <para>Gradient rule: <b>parameter gradients accumulate, activation gradients overwrite</b>, unless a parameter named
/// <c>accumulate</c> says otherwise. Gradients are named gradOutput, gradInput, gradWeight.</para>
/// <para>Sums have a fixed order that depends on shapes alone, never on the number of threads: the same inputs give the
/// same bits on one kind of device. A matrix product is one chain of fused multiply-adds over the inner dimension in
/// rising order for each element, so that a result does not depend on how rows were grouped. The products that sum over
/// rows, weight gradients, have a chain for each <see cref="RowsOfChain"/> rows of a call: the first begins at the old
/// gradient, each later one at zero, and these are added to it in rising order. A GPU can compute the chains side by
/// side, and up to <see cref="RowsOfChain"/> rows the result is one chain.</para>
/// <para>The operands of <see cref="Linear"/>, <see cref="LinearBackwardInput"/>, <see cref="LinearBackwardWeight"/> and
/// their grouped forms are Float32 or BFloat16, both operands of a product alike; results are Float32. A host multiplies
/// bfloat16 as float32, with the same chain; a GPU does so on tensor cores, which add up in float32 in an order of their
/// own.</para>
/// <para>A wrong shape throws <see cref="ArgumentException"/> before anything is written, naming expected and
/// actual.</para>
/// </remarks>
public partial interface IKernels
{
    /// <summary>Rows that one chain of a weight gradient sums over.</summary>
    const int RowsOfChain = 1024;

    /// <summary>Name of the backend and its instruction set, such as <c>cpu/avx512</c>.</summary>
    string Name { get; }

    /// <summary>
    /// What operands rounded to bfloat16 are kept in for this backend's products: BFloat16, or Float32 where those are
    /// faster. A property of the backend, the same for its whole life.
    /// </summary>
    DType BFloat16Storage { get; }

    /// <summary>output[M, N] = input[M, D] weight[N, D]^T.</summary>
    /// <param name="input">[M, D].</param>
    /// <param name="weight">[N, D], as checkpoints store it.</param>
    /// <param name="output">[M, N]; overwritten, or added to.</param>
    /// <param name="accumulate">Adds to <paramref name="output"/> instead of overwriting it.</param>
    void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false);

    /// <summary>gradInput[M, D] = gradOutput[M, N] weight[N, D].</summary>
    void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false);

    /// <summary>gradWeight[N, D] += gradOutput[M, N]^T input[M, D], a chain for each <see cref="RowsOfChain"/> rows.
    /// </summary>
    void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight);

    /// <summary>
    /// Many products in one launch: each item as <see cref="Linear"/>, with an optional row gather of the input.
    /// </summary>
    void GroupedLinear(ReadOnlySpan<GroupedProduct> products);

    /// <summary>Many products in one launch: each item as <see cref="LinearBackwardInput"/>
    /// (<c>Input</c> is gradOutput, <c>Output</c> is gradInput).</summary>
    void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products);

    /// <summary>Many products in one launch: each item as <see cref="LinearBackwardWeight"/> (<c>Input</c> is the saved
    /// input with its row gather, <c>Weight</c> is gradWeight and accumulates, <c>Output</c> is gradOutput).</summary>
    void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products);

    /// <summary>output = input * weight / sqrt(mean(input^2) + epsilon), row by row.</summary>
    /// <param name="input">[M, D].</param>
    /// <param name="weight">[D].</param>
    /// <param name="output">[M, D] Float32, or BFloat16, which takes the nearest value.</param>
    /// <param name="inverseRms">[M]: 1 / sqrt(mean + epsilon), kept for the backward.</param>
    /// <param name="epsilon"><c>rms_norm_eps</c>.</param>
    void RmsNorm(Tensor input, Tensor weight, Tensor output, Tensor inverseRms, float epsilon);

    /// <summary>gradInput of <see cref="RmsNorm"/>: r * (g w - x r^2 mean(g w x)), r = inverseRms.</summary>
    /// <param name="gradOutput">[M, D].</param>
    /// <param name="input">[M, D], as given to the forward.</param>
    /// <param name="weight">[D].</param>
    /// <param name="inverseRms">[M], as the forward wrote it.</param>
    /// <param name="gradInput">[M, D].</param>
    /// <param name="accumulate">Adds: the residual stream's gradient is a sum.</param>
    /// <param name="residual">
    /// [M, D]: added to the gradient in place of what <paramref name="gradInput"/> holds; or empty.
    /// </param>
    void RmsNormBackwardInput(
        Tensor gradOutput, Tensor input, Tensor weight, Tensor inverseRms, Tensor gradInput, bool accumulate = false,
        Tensor residual = default);

    /// <summary>gradWeight[D] += sum over rows of gradOutput * input * inverseRms.</summary>
    void RmsNormBackwardWeight(Tensor gradOutput, Tensor input, Tensor inverseRms, Tensor gradWeight);

    /// <summary>output = silu(gate) * up, elementwise; silu(x) = x / (1 + exp(-x)).</summary>
    /// <param name="gate">[M, F].</param>
    /// <param name="up">[M, F].</param>
    /// <param name="output">[M, F] Float32, or BFloat16, which takes the nearest value.</param>
    void SwiGlu(Tensor gate, Tensor up, Tensor output);

    /// <summary>
    /// Gradients of <see cref="SwiGlu"/>; gradGate and gradUp are overwritten and may be gate and up, or of BFloat16, which
    /// takes the nearest value.
    /// </summary>
    void SwiGluBackward(Tensor gradOutput, Tensor gate, Tensor up, Tensor gradGate, Tensor gradUp);

    /// <summary>
    /// Rotates pairs (2i, 2i+1) of a slice of each head in place by the position's angle; <paramref name="inverse"/>
    /// rotates back (which is also the backward).
    /// </summary>
    /// <param name="data">[M, heads * headDim].</param>
    /// <param name="heads">Number of heads in a row.</param>
    /// <param name="offset">First column of the rotated slice within a head.</param>
    /// <param name="table">[positions, ropeDim]: cos and sin of pair i at columns 2i and 2i+1.</param>
    /// <param name="positions">[M] Int32: row of the table for each row of data.</param>
    /// <param name="inverse">Rotates by the negative angle.</param>
    void RotaryEmbedding(Tensor data, int heads, int offset, Tensor table, Tensor positions, bool inverse = false);

    /// <summary>
    /// Causal multi-head latent attention in its expanded form (report eq. 1-11): per head,
    /// softmax(scale * q [kNope; kRope]^T) v, each sequence on its own. Under BFloat16 operands queries, keys, values
    /// and exp(score - maximum) are rounded before they are multiplied, the latter not in the softmax's denominator.
    /// </summary>
    /// <param name="query">[T, H * (nope + rope)], rotated.</param>
    /// <param name="keyValue">
    /// [T, H * (nope + value)]: the output of kv_b, per head [keys without position | values].
    /// </param>
    /// <param name="keyRope">[T, rope]: the rotated key shared by all heads.</param>
    /// <param name="output">[T, H * value].</param>
    /// <param name="logSumExp">[H, T]: log of the softmax denominators, kept for the backward.</param>
    /// <param name="attention">Head sizes, scale and where the sequences begin.</param>
    void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention);

    /// <summary>
    /// Gradients of <see cref="Attention"/>; all three are overwritten. Under BFloat16 operands gradOutput and the
    /// probabilities are rounded as well, and the gradients of scores before they are scaled.
    /// </summary>
    /// <param name="gradOutput">[T, H * value].</param>
    /// <param name="query">As given to the forward.</param>
    /// <param name="keyValue">As given to the forward.</param>
    /// <param name="keyRope">As given to the forward.</param>
    /// <param name="output">As the forward wrote it.</param>
    /// <param name="logSumExp">As the forward wrote it.</param>
    /// <param name="gradQuery">[T, H * (nope + rope)].</param>
    /// <param name="gradKeyValue">[T, H * (nope + value)].</param>
    /// <param name="gradKeyRope">[T, rope]: summed over heads in index order.</param>
    /// <param name="attention">As given to the forward.</param>
    void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention);

    /// <summary>
    /// Puts the latents of new tokens in their places: row r becomes the cached row of the token at
    /// <see cref="LatentPages.Positions"/>[r] of its sequence, rounded where the pages are bfloat16.
    /// </summary>
    /// <param name="latent">[R, latent]: normalised.</param>
    /// <param name="keyRope">[R, rope]: the rotated key shared by all heads.</param>
    /// <param name="pages">Where they belong; no two rows to one place.</param>
    void StoreLatents(Tensor latent, Tensor keyRope, in LatentPages pages);

    /// <summary>
    /// The absorbed form of the same attention for decoding, over a paged cache: the key and value projections of kv_b are
    /// applied to the query and to the context, and the cache holds only the normalised latent and the rotated key. Row r
    /// of the query, the token at position p of its sequence, sees the tokens 0 to p of it.
    /// </summary>
    /// <param name="query">[R, H * (nope + rope)], rotated: new tokens of any sequences.</param>
    /// <param name="upProjection">[H * (nope + value), latent]: the weight of kv_b.</param>
    /// <param name="pages">The cache, and which token of which sequence each row is.</param>
    /// <param name="output">[R, H * value].</param>
    /// <param name="attention">Head sizes and scale; sequence starts and operands are not read.</param>
    void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention);

    /// <summary>
    /// The gate (report eq. 12-16): scores from logits, the bias added for the choice alone, group masking with -inf,
    /// top-k with the lowest index on ties, weights from the unbiased scores.
    /// </summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="bias">[E], or empty.</param>
    /// <param name="scores">[T, E]: sigmoid or softmax of the logits.</param>
    /// <param name="indices">[T, K] Int32: the chosen experts of each token in rising order.</param>
    /// <param name="weights">[T, K]: normalised if the shape says so, times the scaling factor.</param>
    /// <param name="routing">Experts, groups and scoring.</param>
    void Route(Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing);

    /// <summary>
    /// Gradient of the gate with respect to the logits: from the weights of the chosen experts, and from the balance
    /// loss sum_i f_i P_i where <paramref name="balanceGradient"/> is given. The bias takes no part.
    /// </summary>
    /// <param name="gradWeights">[T, K].</param>
    /// <param name="scores">[T, E], from the forward.</param>
    /// <param name="indices">[T, K] Int32, from the forward.</param>
    /// <param name="balanceGradient">
    /// [S, E]: per sequence, d loss / d (normalised score of one token); or empty.
    /// </param>
    /// <param name="sequenceOfToken">
    /// [T] Int32: row of <paramref name="balanceGradient"/> for each token; or empty.
    /// </param>
    /// <param name="gradLogits">[T, E]; overwritten.</param>
    /// <param name="routing">As given to the forward.</param>
    void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing);

    /// <summary>
    /// The two factors of the sequence-wise balance loss (report eq. 17-20): how often each expert was chosen and the
    /// mean of its normalised score, per sequence.
    /// </summary>
    /// <param name="scores">[T, E].</param>
    /// <param name="indices">[T, K] Int32.</param>
    /// <param name="sequenceStarts">S + 1 rising offsets into the tokens.</param>
    /// <param name="frequency">[S, E]: E / (K T_s) * tokens of sequence s that chose the expert.</param>
    /// <param name="meanScore">[S, E]: mean over the sequence of score / sum of scores.</param>
    void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore);

    /// <summary>
    /// Weighted sums of rows along the fixed reduction tree: output[r] = sum over i in [starts[r], starts[r+1]), in
    /// that order, of scale[i] * source[row[i]]. The first term is a product, each later one a fused multiply-add.
    /// </summary>
    /// <param name="source">[R, D].</param>
    /// <param name="rows">Int32 [n]: rows of the source.</param>
    /// <param name="scale">[n], or empty for plain sums.</param>
    /// <param name="starts">
    /// Int32 [M + 1]: rising offsets into <paramref name="rows"/>. An empty range writes zeros.
    /// </param>
    /// <param name="output">[M, D].</param>
    /// <param name="accumulate">Adds the finished sum to output instead of overwriting it.</param>
    void SumRows(Tensor source, Tensor rows, Tensor scale, Tensor starts, Tensor output, bool accumulate = false);

    /// <summary>output[i] = scale[i] * source[rows[i]]; scale may be empty.</summary>
    void GatherRows(Tensor source, Tensor rows, Tensor scale, Tensor output);

    /// <summary>output[i] = dot(left[leftRows[i]], right[rightRows[i]]).</summary>
    /// <param name="left">[A, D].</param>
    /// <param name="leftRows">Int32 [n].</param>
    /// <param name="right">[B, D].</param>
    /// <param name="rightRows">Int32 [n].</param>
    /// <param name="output">[n].</param>
    void DotRows(Tensor left, Tensor leftRows, Tensor right, Tensor rightRows, Tensor output);

    /// <summary>gradTable[ids[t]] += gradOutput[t], tokens in order. A negative id adds nothing.</summary>
    /// <param name="gradOutput">[T, D].</param>
    /// <param name="ids">Int32 [T].</param>
    /// <param name="gradTable">[V, D].</param>
    void EmbeddingBackward(Tensor gradOutput, Tensor ids, Tensor gradTable);

    /// <summary>
    /// losses[t] = logsumexp(logits[t]) - logits[t, target]; where <paramref name="gradScale"/> is not zero the logits
    /// are overwritten with gradScale * (softmax - onehot). A negative target gives loss 0 and a zero gradient.
    /// </summary>
    /// <param name="logits">[T, V].</param>
    /// <param name="targets">Int32 [T].</param>
    /// <param name="losses">[T], nats.</param>
    /// <param name="gradScale">d loss / d losses[t]; 0 leaves the logits as they are.</param>
    void CrossEntropy(Tensor logits, Tensor targets, Tensor losses, float gradScale);

    /// <summary>
    /// <see cref="CrossEntropy"/> with a gradient that only products read, rounded: the bits of
    /// <see cref="RoundToBFloat16"/> behind it, in one pass where the backend has one.
    /// </summary>
    /// <param name="logits">[T, V]; unspecified afterwards.</param>
    /// <param name="targets">Int32 [T].</param>
    /// <param name="losses">[T], nats.</param>
    /// <param name="gradScale">d loss / d losses[t]; not 0.</param>
    /// <param name="gradients">[T, V] BFloat16, or Float32, where the values are widened again; may be the logits.</param>
    void CrossEntropyRounded(Tensor logits, Tensor targets, Tensor losses, float gradScale, Tensor gradients)
    {
        CrossEntropy(logits, targets, losses, gradScale);
        RoundToBFloat16(logits, gradients);
    }

    /// <summary>indices[t] = column of the largest value of row t, the lowest on ties.</summary>
    /// <param name="values">[T, V].</param>
    /// <param name="indices">Int32 [T]; overwritten.</param>
    void ArgMax(Tensor values, Tensor indices);

    /// <summary>destination += source, elementwise.</summary>
    void Add(Tensor source, Tensor destination);

    /// <summary>destination = source, elementwise.</summary>
    void Copy(Tensor source, Tensor destination);

    /// <summary>destination = value.</summary>
    /// <param name="destination">Float32, or BFloat16, which takes the nearest value.</param>
    /// <param name="value">The value.</param>
    void Fill(Tensor destination, float value);

    /// <summary>
    /// destination = standardDeviation * normal values of a sequence that <paramref name="state"/> begins: for even i,
    /// values i and i + 1 are sqrt(-2 ln(1 - u)) times cosine and sine of 2 pi v, in float64, where u and v are numbers i
    /// and i + 1 of SplitMix64 as fractions of 53 bits.
    /// </summary>
    /// <param name="destination">Dense, Float32.</param>
    /// <param name="state">State of SplitMix64 before its first number.</param>
    /// <param name="standardDeviation">Of the values.</param>
    void FillNormal(Tensor destination, ulong state, double standardDeviation);

    /// <summary>Sum of squares of each tensor in float64, in a fixed order: one wait for all of them.</summary>
    /// <param name="values">Float32, of any shape.</param>
    /// <param name="sums">As many; overwritten.</param>
    void SumsOfSquares(ReadOnlySpan<Tensor> values, Span<double> sums);

    /// <summary>
    /// One AdamW step of many parameters in one launch (decoupled decay, as PyTorch orders it): g = grad * gradScale;
    /// w -= lr * wd * w; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    /// w -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps).
    /// </summary>
    /// <param name="parameters">
    /// Weights and moments are updated in place, gradients become zero; a weight is also rounded to bfloat16 where there is
    /// room for that.
    /// </param>
    /// <param name="step">Rates and step number.</param>
    void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step);
}
