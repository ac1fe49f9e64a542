using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>One product of a grouped launch. Operands are Float32 or BFloat16, both alike; results are Float32.</summary>
/// <param name="Input">[R, D], or [rows, D] where no gather is given.</param>
/// <param name="Weight">[N, D].</param>
/// <param name="Output">[M, N].</param>
/// <param name="InputRows">Int32 [M]: which rows of the input, or empty for rows 0 to M - 1.</param>
/// <param name="Accumulate">Adds to the output (never needed for the weight form, which always adds).</param>
/// <param name="Range">
/// Int32 [2], begin and end on the device, or empty for all: the product is of these rows of the output alone, with as many
/// of <paramref name="InputRows"/>, or where none are given of the input. They and the row numbers come from
/// one <see cref="DispatchTable"/> and are not checked. Outputs of a launch may be one tensor then, with ranges apart.
/// </param>
public readonly record struct GroupedProduct(
    Tensor Input, Tensor Weight, Tensor Output, Tensor InputRows = default, bool Accumulate = false,
    Tensor Range = default)
{
    /// <summary>The product of the rows of its range, for who reads it on the host.</summary>
    internal unsafe GroupedProduct Resolved()
    {
        if (Range.IsEmpty)
        {
            return this;
        }

        int first = Range.Ints[0], count = Range.Ints[1] - first;
        return this with
        {
            Input = InputRows.IsEmpty ? Input.SliceRows(first, count) : Input,
            InputRows = InputRows.IsEmpty ? default : InputRows.SliceElements(first, count),
            Output = Output.SliceRows(first, count),
            Range = default,
        };
    }
}

/// <summary>Sizes of an attention call.</summary>
/// <param name="Heads">H.</param>
/// <param name="NopeDim"><c>qk_nope_head_dim</c>.</param>
/// <param name="RopeDim"><c>qk_rope_head_dim</c>.</param>
/// <param name="ValueDim"><c>v_head_dim</c>.</param>
/// <param name="Scale">Softmax scale: (nope + rope)^-0.5, times mscale^2 under YaRN.</param>
/// <param name="SequenceStarts">S + 1 rising token offsets: sequence s is [starts[s], starts[s+1]).</param>
/// <param name="Operand">What the operands of the products are rounded to: Float32 (not at all) or BFloat16. Scores,
/// softmax and sums are float32 either way.</param>
public readonly record struct AttentionShape(
    int Heads, int NopeDim, int RopeDim, int ValueDim, float Scale, int[] SequenceStarts,
    DType Operand = DType.Float32);

/// <summary>
/// Cached latents of many sequences in pages of <see cref="PageTokens"/> tokens, and the tokens that a call is about.
/// </summary>
/// <param name="Rows">
/// [pages * PageTokens, latent + rope], Float32 or BFloat16: normalised latent | rotated key of a token.
/// </param>
/// <param name="Table">Int32 [S, P]: the pages of each sequence in the order of its tokens; 0 behind the last.</param>
/// <param name="Sequences">Int32 [R]: row of the table for each row of the call.</param>
/// <param name="Positions">Int32 [R]: which token of its sequence a row is, below P * PageTokens.</param>
public readonly record struct LatentPages(Tensor Rows, Tensor Table, Tensor Sequences, Tensor Positions)
{
    /// <summary>Tokens of a page.</summary>
    public const int PageTokens = 64;
}

/// <summary>Sizes and rules of the gate.</summary>
/// <param name="Experts">E.</param>
/// <param name="TopK">K.</param>
/// <param name="Groups"><c>n_group</c>; 1 for none.</param>
/// <param name="KeptGroups"><c>topk_group</c>.</param>
/// <param name="Softmax">Softmax over the experts (V2) instead of sigmoid (V3).</param>
/// <param name="GroupByTopTwo">Group score is the sum of its two largest biased scores (V3), else its largest.</param>
/// <param name="Normalize"><c>norm_topk_prob</c>: weights are divided by their sum + 1e-20.</param>
/// <param name="ScalingFactor"><c>routed_scaling_factor</c>.</param>
public readonly record struct RoutingShape(
    int Experts, int TopK, int Groups, int KeptGroups, bool Softmax, bool GroupByTopTwo, bool Normalize,
    float ScalingFactor);

/// <summary>What AdamW reads and updates of one parameter.</summary>
/// <param name="Weight">[M, D].</param>
/// <param name="Gradient">[M, D]; zero afterwards.</param>
/// <param name="FirstMoment">[M, D], Float32 or BFloat16.</param>
/// <param name="SecondMoment">[M, D], Float32 or BFloat16.</param>
/// <param name="Decays">Whether the step's weight decay applies.</param>
/// <param name="Rounded">[M, D] BFloat16, or empty: takes the new weight, rounded as products read it.</param>
public readonly record struct AdamWParameter(
    Tensor Weight, Tensor Gradient, Tensor FirstMoment, Tensor SecondMoment, bool Decays = true,
    Tensor Rounded = default);

/// <summary>Rates of one AdamW step.</summary>
/// <param name="LearningRate">Step size.</param>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="Epsilon">Added to the root of the second moment.</param>
/// <param name="WeightDecay">Decoupled decay of the parameters that have one.</param>
/// <param name="Step">Number of this step, from 1.</param>
/// <param name="GradientScale">Factor from global-norm clipping; 1 for none.</param>
public readonly record struct AdamWStep(
    float LearningRate, float Beta1, float Beta2, float Epsilon, float WeightDecay, int Step, float GradientScale);
