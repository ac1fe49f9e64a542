using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
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

    /// <summary>Logits that training holds in float32 at a time where it keeps their gradient in bfloat16: 32 MiB, which
    /// the caches of a GPU hold.</summary>
    private const int LogitsAtATime = 8 << 20;

    private readonly Linear _projection;

    /// <summary>Allocates the projection [V, D], uninitialised.</summary>
    /// <param name="config">The model.</param>
    /// <param name="device">Where it computes.</param>
    /// <param name="recipe">Of <see cref="PrecisionRecipe.Head"/>; float32 where left out.</param>
    public OutputHead(ModelConfig config, IDevice device, PrecisionRecipe? recipe = null)
    {
        recipe ??= PrecisionRecipe.Fp32;
        Parameters = new(device, "head", gradientBanks: 2, recipe.KeepsMasters);
        _projection = Parameters.AddLinear(
            "lm_head.weight", new(config.VocabSize, config.HiddenSize), recipe.Head);
    }

    /// <summary>The projection.</summary>
    public ParameterSet Parameters { get; }

    private bool IsRounded => _projection.Precision.Operand == DType.BFloat16;

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

        internal Operand Hidden, GradLogits;
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
        int rows = hidden.Rows;
        DType stored = IsRounded ? kernels.BFloat16Storage : DType.Float32;
        state.Hidden = Operand.Input(kernels, arena, hidden, _projection.Precision);
        Tensor gradLogits = arena.Allocate(rows, _projection.Outputs, stored);
        state.GradLogits = new(gradLogits);
        state.Losses = arena.Allocate(rows);
        state.Logits = keepLogits ? arena.Allocate(rows, _projection.Outputs) : default;
        int most = IsRounded ? Math.Max(EvaluationRows, LogitsAtATime / _projection.Outputs) : rows;
        Tensor room = stored == DType.Float32 ? gradLogits : arena.Allocate(Math.Min(most, rows), _projection.Outputs);
        for (int start = 0; start < rows; start += most)
        {
            int count = Math.Min(most, rows - start);
            Tensor gradients = gradLogits.SliceRows(start, count);
            Tensor logits = stored == DType.Float32 ? gradients : room.SliceRows(0, count);
            _projection.Forward(kernels, state.Hidden.SliceRows(start, count), logits);
            if (keepLogits)
            {
                kernels.Copy(logits, state.Logits.SliceRows(start, count));
            }

            Tensor ownTargets = targets.SliceElements(start, count), losses = state.Losses.SliceElements(start, count);
            if (gradScale != 0 && IsRounded)
            {
                kernels.CrossEntropyRounded(logits, ownTargets, losses, gradScale, gradients);
                continue;
            }

            kernels.CrossEntropy(logits, ownTargets, losses, gradScale);
            if (gradScale == 0)
            {
                // The kernel leaves the logits in place then; a loss without weight has no gradient.
                kernels.Fill(gradients, 0);
            }
        }
    }

    /// <summary>Gradient of the normalised hidden state [T, D].</summary>
    public void BackwardInput(IKernels kernels, State state, Tensor gradHidden) =>
        _projection.BackwardInput(kernels, state.GradLogits, gradHidden);

    /// <summary>Adds the gradient of the projection in the slot's bank.</summary>
    public void BackwardWeight(IKernels kernels, long slot, State state)
    {
        Parameters.SelectGradients(slot);
        _projection.BackwardWeight(kernels, state.GradLogits, state.Hidden);
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
        Operand input = Operand.Input(kernels, arena, hidden, _projection.Precision);
        Tensor logits = arena.Allocate(Math.Min(hidden.Rows, EvaluationRows), _projection.Outputs);
        for (int start = 0; start < hidden.Rows; start += EvaluationRows)
        {
            int rows = Math.Min(EvaluationRows, hidden.Rows - start);
            Tensor part = logits.SliceRows(0, rows);
            _projection.Forward(kernels, input.SliceRows(start, rows), part);
            kernels.CrossEntropy(
                part, targets.SliceElements(start, rows), state.Losses.SliceElements(start, rows), 0);
            kernels.ArgMax(part, state.ArgMax.SliceElements(start, rows));
        }
    }

    /// <summary>Logits of every row: [T, V].</summary>
    public Tensor Logits(IKernels kernels, Arena arena, Tensor hidden)
    {
        Tensor logits = arena.Allocate(hidden.Rows, _projection.Outputs);
        _projection.Forward(kernels, Operand.Input(kernels, arena, hidden, _projection.Precision), logits);
        return logits;
    }

    /// <inheritdoc/>
    public void Dispose() => Parameters.Dispose();
}
