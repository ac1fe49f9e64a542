using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The vocabulary projection with its cross-entropy; shared by the main model and every MTP depth. An owner of its own:
/// copies of the last stage for both directions use one (docs/decisions/0009).
/// </summary>
public sealed class OutputHead : IDisposable
{
    /// <summary>Rows of logits that an evaluation holds at a time.</summary>
    private const int EvaluationRows = 256;

    private readonly Parameter _weight;

    /// <summary>Allocates the projection [V, D], uninitialised.</summary>
    public OutputHead(ModelConfig config, IDevice device)
    {
        Parameters = new(device, "head", gradientBanks: 2);
        _weight = Parameters.Add("lm_head.weight", new(config.VocabSize, config.HiddenSize));
    }

    /// <summary>The projection.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>Activations and gradients of one micro-batch and depth.</summary>
    public sealed class State
    {
        /// <summary>[T, V] where the caller asked to keep them, else empty.</summary>
        public Tensor Logits { get; internal set; }

        /// <summary>[T]: nats, 0 where there is no target.</summary>
        public Tensor Losses { get; internal set; }

        /// <summary>Int32 [T]: the most likely token, after an evaluation that asked for it.</summary>
        public Tensor ArgMax { get; internal set; }

        /// <summary>[T, D]: gradient of the rows, where a head elsewhere has sent it with the losses.</summary>
        internal Tensor GradHidden { get; set; }

        internal Tensor Hidden, GradLogits;
    }

    /// <summary>Losses and, at once, the gradient of the logits.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="hidden">[T, D], normalised.</param>
    /// <param name="targets">Int32 [T], negative for none.</param>
    /// <param name="gradScale">d total loss / d one token's loss.</param>
    /// <param name="keepLogits">Keeps a copy of the logits, for checks.</param>
    /// <param name="state">Filled.</param>
    public void Forward(
        IKernels kernels, Arena arena, Tensor hidden, Tensor targets, float gradScale, bool keepLogits, State state)
    {
        state.Hidden = hidden;
        state.GradLogits = arena.Allocate(hidden.Rows, _weight.Shape.D0);
        state.Losses = arena.Allocate(hidden.Rows);
        kernels.Linear(hidden, _weight.Value, state.GradLogits);
        state.Logits = default;
        if (keepLogits)
        {
            state.Logits = arena.Allocate(hidden.Rows, _weight.Shape.D0);
            kernels.Copy(state.GradLogits, state.Logits);
        }

        kernels.CrossEntropy(state.GradLogits, targets, state.Losses, gradScale);
        if (gradScale == 0)
        {
            // The kernel leaves the logits in place then; a loss without weight has no gradient.
            kernels.Fill(state.GradLogits, 0);
        }
    }

    /// <summary>Gradient of the normalised hidden state [T, D].</summary>
    public void BackwardInput(IKernels kernels, State state, Tensor gradHidden) =>
        kernels.LinearBackwardInput(state.GradLogits, _weight.Value, gradHidden);

    /// <summary>Adds the gradient of the projection in the slot's bank.</summary>
    public void BackwardWeight(IKernels kernels, long slot, State state)
    {
        Parameters.SelectGradients(slot);
        kernels.LinearBackwardWeight(state.GradLogits, state.Hidden, _weight.Gradient);
    }

    /// <summary>Losses and arg-max without a gradient, a few rows of logits at a time.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the call.</param>
    /// <param name="hidden">[T, D], normalised.</param>
    /// <param name="targets">Int32 [T], negative for none.</param>
    /// <param name="state">Losses and ArgMax are filled.</param>
    public void Evaluate(IKernels kernels, Arena arena, Tensor hidden, Tensor targets, State state)
    {
        state.Losses = arena.Allocate(hidden.Rows);
        state.ArgMax = arena.Allocate(hidden.Rows, DType.Int32);
        Tensor logits = arena.Allocate(Math.Min(hidden.Rows, EvaluationRows), _weight.Shape.D0);
        for (int start = 0; start < hidden.Rows; start += EvaluationRows)
        {
            int rows = Math.Min(EvaluationRows, hidden.Rows - start);
            Tensor part = logits.SliceRows(0, rows);
            kernels.Linear(hidden.SliceRows(start, rows), _weight.Value, part);
            kernels.CrossEntropy(
                part, targets.SliceElements(start, rows), state.Losses.SliceElements(start, rows), 0);
            kernels.ArgMax(part, state.ArgMax.SliceElements(start, rows));
        }
    }

    /// <summary>Logits of every row: [T, V].</summary>
    public Tensor Logits(IKernels kernels, Arena arena, Tensor hidden)
    {
        Tensor logits = arena.Allocate(hidden.Rows, _weight.Shape.D0);
        kernels.Linear(hidden, _weight.Value, logits);
        return logits;
    }

    /// <inheritdoc/>
    public void Dispose() => Parameters.Dispose();
}
