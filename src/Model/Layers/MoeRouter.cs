using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>
/// The gate of one MoE layer: scores, the bias that only steers the choice, top-k with groups, and the gradient of the
/// balance loss (report 2.1.2).
/// </summary>
public sealed class MoeRouter
{
    private readonly RoutingShape _shape;
    private readonly Parameter _weight;

    /// <summary>Adds the gate weight of <paramref name="layer"/> to <paramref name="parameters"/>.</summary>
    /// <param name="config">Experts, groups and scoring.</param>
    /// <param name="parameters">Where the weight is added.</param>
    /// <param name="buffers">Arena of the bias.</param>
    /// <param name="layer">Layer number in checkpoint names.</param>
    public MoeRouter(ModelConfig config, ParameterSet parameters, Arena buffers, int layer)
    {
        _shape = config.Routing;
        _weight = parameters.Add($"model.layers.{layer}.mlp.gate.weight", new(config.NRoutedExperts, config.HiddenSize));
        if (config.HasRoutingBias)
        {
            Bias = buffers.Allocate(config.NRoutedExperts);
        }
    }

    /// <summary>
    /// [E] float32, or empty: added to the scores for the choice alone; never part of a weight or a gradient.
    /// Uninitialised, as parameters are.
    /// </summary>
    public Tensor Bias { get; }

    /// <summary>Activations and gradients of one micro-batch.</summary>
    public sealed class State
    {
        /// <summary>[T, E].</summary>
        public Tensor Logits { get; internal set; }

        /// <summary>[T, K] Int32, rising.</summary>
        public Tensor Indices { get; internal set; }

        /// <summary>[T, K].</summary>
        public Tensor Weights { get; internal set; }

        internal Tensor Input, Scores, Frequency, MeanScore, GradLogits;
        internal TokenLayout Layout = null!;
    }

    /// <summary>Chooses experts for every token.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D], normalised.</param>
    /// <param name="layout">Sequences, for the balance loss.</param>
    /// <param name="balance">Which balance loss is measured, or null outside training.</param>
    /// <param name="state">Filled.</param>
    public void Forward(
        IKernels kernels, Arena arena, Tensor input, TokenLayout layout, BalanceLossOptions? balance, State state)
    {
        int tokens = input.Rows;
        state.Input = input;
        state.Layout = layout;
        state.Logits = arena.Allocate(tokens, _shape.Experts);
        state.Scores = arena.Allocate(tokens, _shape.Experts);
        state.Indices = arena.Allocate(tokens, _shape.TopK, DType.Int32);
        state.Weights = arena.Allocate(tokens, _shape.TopK);
        kernels.Linear(input, _weight.Value, state.Logits);
        kernels.Route(state.Logits, Bias, state.Scores, state.Indices, state.Weights, _shape);
        (state.Frequency, state.MeanScore) = (default, default);
        if (balance is null || tokens == 0)
        {
            return;
        }

        int[] starts = balance.Scope == BalanceLossScope.Sequence ? layout.SequenceStarts : [0, tokens];
        state.Frequency = arena.Allocate(starts.Length - 1, _shape.Experts);
        state.MeanScore = arena.Allocate(starts.Length - 1, _shape.Experts);
        kernels.BalanceStatistics(state.Scores, state.Indices, starts, state.Frequency, state.MeanScore);
    }

    /// <summary>Adds the gate's part to the gradient of the input.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="state">From the forward.</param>
    /// <param name="gradWeights">[T, K].</param>
    /// <param name="balance">Coefficient and scope, as given to the forward.</param>
    /// <param name="gradInput">[T, D]; added to.</param>
    public void BackwardInput(
        IKernels kernels, Arena arena, State state, Tensor gradWeights, BalanceLossOptions balance, Tensor gradInput)
    {
        state.GradLogits = arena.Allocate(state.Logits.Rows, _shape.Experts);
        Tensor balanceGradient = default;
        Tensor sequenceOfToken = default;
        if (balance.Alpha != 0 && !state.Frequency.IsEmpty)
        {
            int sequences = state.Frequency.Rows;
            balanceGradient = arena.Allocate(sequences, _shape.Experts);
            Tensor factors = arena.Upload<float, (TokenLayout Layout, BalanceLossOptions Options)>(
                kernels, sequences, (state.Layout, balance),
                static (values, state) => BalanceLoss.GradientFactors(state.Layout, state.Options, values));
            kernels.GatherRows(state.Frequency, arena.UploadRange(kernels, sequences), factors, balanceGradient);
            sequenceOfToken = balance.Scope == BalanceLossScope.Sequence
                ? state.Layout.SequenceOfToken
                : arena.Upload<int, int>(kernels, state.Logits.Rows, 0, static (values, _) => values.Clear());
        }

        kernels.RouteBackward(
            gradWeights, state.Scores, state.Indices, balanceGradient, sequenceOfToken, state.GradLogits, _shape);
        kernels.LinearBackwardInput(state.GradLogits, _weight.Value, gradInput, accumulate: true);
    }

    /// <summary>Adds the gradient of the gate's weight.</summary>
    public void BackwardWeight(IKernels kernels, State state) =>
        kernels.LinearBackwardWeight(state.GradLogits, state.Input, _weight.Gradient);
}
