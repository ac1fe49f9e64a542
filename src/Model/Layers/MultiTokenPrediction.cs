using System.Buffers;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// One depth of multi-token prediction (report 2.2): eh_proj [enorm(embedding of the token k ahead); hnorm(previous
/// hidden)], one full block, a norm of its own; the head is the main model's. Depth k predicts the token k + 1 ahead.
/// </summary>
public sealed class MultiTokenPrediction
{
    private readonly int _hidden;
    private readonly RmsNorm _embeddingNorm;
    private readonly RmsNorm _hiddenNorm;
    private readonly Linear _projection;
    private readonly RmsNorm _headNorm;

    /// <summary>Adds the weights of depth <paramref name="depth"/> (from 1).</summary>
    public MultiTokenPrediction(
        ModelConfig config, ParameterSet parameters, Arena buffers, int depth, PrecisionRecipe recipe)
    {
        Depth = depth;
        _hidden = config.HiddenSize;
        int layer = config.NumHiddenLayers + depth - 1;
        string prefix = $"model.layers.{layer}.";
        float epsilon = (float)config.RmsNormEps;
        _embeddingNorm = new(parameters.Add(prefix + "enorm.weight", new(_hidden)), epsilon);
        _hiddenNorm = new(parameters.Add(prefix + "hnorm.weight", new(_hidden)), epsilon);
        _projection = parameters.AddLinear(
            prefix + "eh_proj.weight", new(_hidden, 2 * _hidden), recipe.MtpProjection);
        Block = new(config, parameters, buffers, layer, recipe);
        _headNorm = new(parameters.Add(prefix + "shared_head.norm.weight", new(_hidden)), epsilon);
    }

    /// <summary>Depth k, from 1.</summary>
    public int Depth { get; }

    /// <summary>The transformer block.</summary>
    public TransformerBlock Block { get; }

    /// <summary>Activations and gradients of one micro-batch.</summary>
    public sealed class State
    {
        /// <summary>The block's state.</summary>
        public TransformerBlock.State Block { get; } = new();

        /// <summary>Head state: logits and losses of this depth.</summary>
        public OutputHead.State Head { get; } = new();

        /// <summary>Rows of this depth: each sequence without its last k.</summary>
        public TokenLayout Layout { get; internal set; } = null!;

        /// <summary>Int32: targets of this depth's rows.</summary>
        public Tensor Targets { get; internal set; }

        internal Tensor Projected;
        internal Operand Joined, GradProjected;
        internal Tensor EmbeddingBackRows, EmbeddingBackStarts, HiddenBackRows, HiddenBackStarts;
        internal RmsNorm.Saved EmbeddingNorm, HiddenNorm, HeadNorm;
        internal Tensor GradEmbedding, GradHidden, GradNormed, GradStream, GradEmbeddingNormed, GradHiddenNormed;
    }

    /// <summary>Joins embeddings and previous hidden states: the input of the block [T_k, D].</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="layout">Layout of the main rows.</param>
    /// <param name="previousLayout">Layout of the previous depth's rows (the main rows for depth 1).</param>
    /// <param name="previous">[T_{k-1}, D]: hidden state of the previous depth.</param>
    /// <param name="embeddings">[T, D]: embeddings of the main rows.</param>
    /// <param name="targets">Next token of each main row, -1 for none.</param>
    /// <param name="state">Filled; its layout must be set.</param>
    public Tensor Join(
        IKernels kernels, Arena arena, TokenLayout layout, TokenLayout previousLayout, Tensor previous,
        Tensor embeddings, ReadOnlySpan<int> targets, State state)
    {
        int rows = state.Layout.Tokens;
        state.Layout.Fill(kernels);
        int[] ahead = ArrayPool<int>.Shared.Rent(rows), at = ArrayPool<int>.Shared.Rent(rows);
        state.Layout.RowsIn(layout, Depth, ahead);
        state.Layout.RowsIn(previousLayout, 0, at);
        Tensor embeddingRows = arena.Upload(kernels, ahead.AsSpan(0, rows));
        Tensor hiddenRows = arena.Upload(kernels, at.AsSpan(0, rows));
        (state.EmbeddingBackRows, state.EmbeddingBackStarts) =
            Inverse(kernels, arena, ahead.AsSpan(0, rows), layout.Tokens);
        (state.HiddenBackRows, state.HiddenBackStarts) =
            Inverse(kernels, arena, at.AsSpan(0, rows), previousLayout.Tokens);
        for (int row = 0; row < rows; row++)
        {
            at[row] = targets[ahead[row]];
        }

        state.Targets = arena.Upload(kernels, at.AsSpan(0, rows));
        ArrayPool<int>.Shared.Return(ahead);
        ArrayPool<int>.Shared.Return(at);
        Tensor embedding = arena.Allocate(rows, _hidden);
        Tensor hidden = arena.Allocate(rows, _hidden);
        kernels.GatherRows(embeddings, embeddingRows, default, embedding);
        kernels.GatherRows(previous, hiddenRows, default, hidden);
        Tensor joined = arena.Allocate(rows, 2 * _hidden);
        state.EmbeddingNorm = _embeddingNorm.Forward(kernels, arena, embedding, joined.SliceColumns(0, _hidden));
        state.HiddenNorm = _hiddenNorm.Forward(kernels, arena, hidden, joined.SliceColumns(_hidden, _hidden));
        state.Projected = arena.Allocate(rows, _hidden);
        state.Joined = Operand.Input(kernels, arena, joined, _projection.Precision);
        _projection.Forward(kernels, state.Joined, state.Projected);
        return state.Projected;
    }

    /// <summary>The normalised output of the block, which the head and the next depth read.</summary>
    public Tensor Normalize(IKernels kernels, Arena arena, State state)
    {
        state.HeadNorm = _headNorm.Forward(kernels, arena, state.Block.Output);
        return state.HeadNorm.Output;
    }

    /// <summary>
    /// Gradient of the block's output from the head's; what the next depth sent is already in GradStream.
    /// </summary>
    internal void BackwardNormalize(IKernels kernels, State state) =>
        _headNorm.BackwardInput(kernels, state.HeadNorm, state.GradNormed, state.GradStream, accumulate: true);

    /// <summary>
    /// Sends the gradient of the block's input back to embeddings and previous hidden states, adding to both.
    /// </summary>
    internal void BackwardJoin(
        IKernels kernels, Arena arena, State state, Tensor gradProjected, Tensor gradEmbeddings, Tensor gradPrevious)
    {
        int rows = gradProjected.Rows;
        Tensor gradJoined = arena.Allocate(rows, 2 * _hidden);
        state.GradProjected = Operand.Gradient(kernels, arena, gradProjected, _projection.Precision);
        _projection.BackwardInput(kernels, state.GradProjected, gradJoined);
        state.Joined = state.Joined.ForWeightGradient(kernels, arena, _projection.Precision);
        state.GradEmbeddingNormed = gradJoined.SliceColumns(0, _hidden);
        state.GradHiddenNormed = gradJoined.SliceColumns(_hidden, _hidden);
        state.GradEmbedding = arena.Allocate(rows, _hidden);
        state.GradHidden = arena.Allocate(rows, _hidden);
        _embeddingNorm.BackwardInput(kernels, state.EmbeddingNorm, state.GradEmbeddingNormed, state.GradEmbedding);
        _hiddenNorm.BackwardInput(kernels, state.HiddenNorm, state.GradHiddenNormed, state.GradHidden);
        kernels.SumRows(
            state.GradEmbedding, state.EmbeddingBackRows, default, state.EmbeddingBackStarts, gradEmbeddings,
            accumulate: true);
        kernels.SumRows(
            state.GradHidden, state.HiddenBackRows, default, state.HiddenBackStarts, gradPrevious, accumulate: true);
    }

    /// <summary>Adds the gradients of norms and projection (the block's are taken by its runner).</summary>
    internal void BackwardWeight(IKernels kernels, State state)
    {
        _headNorm.BackwardWeight(kernels, state.HeadNorm, state.GradNormed);
        _projection.BackwardWeight(kernels, state.GradProjected, state.Joined);
        _embeddingNorm.BackwardWeight(kernels, state.EmbeddingNorm, state.GradEmbeddingNormed);
        _hiddenNorm.BackwardWeight(kernels, state.HiddenNorm, state.GradHiddenNormed);
    }

    /// <summary>
    /// For each of <paramref name="count"/> rows the gathered row that came from it, if any, as ranges.
    /// </summary>
    private static (Tensor Rows, Tensor Starts) Inverse(
        IKernels kernels, Arena arena, ReadOnlySpan<int> gathered, int count)
    {
        int[] starts = ArrayPool<int>.Shared.Rent(count + 1);
        int next = 0;
        for (int row = 0; row < count; row++)
        {
            starts[row] = next;
            next += next < gathered.Length && gathered[next] == row ? 1 : 0;
        }

        starts[count] = next;
        Tensor uploaded = arena.Upload(kernels, starts.AsSpan(0, count + 1));
        ArrayPool<int>.Shared.Return(starts);
        return (arena.UploadRange(kernels, gathered.Length), uploaded);
    }
}
