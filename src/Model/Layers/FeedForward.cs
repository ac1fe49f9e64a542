using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The SwiGLU MLP of dense layers and of the shared expert: down(silu(gate x) * up x).</summary>
/// <param name="gate">[F, D].</param>
/// <param name="up">[F, D], in the gate's precision.</param>
/// <param name="down">[D, F].</param>
/// <param name="cache">What gate and up projections are kept in for the backward, or null for no rounding.</param>
public sealed class FeedForward(Linear gate, Linear up, Linear down, TileFormat? cache)
{
    /// <summary>Activations and gradients of one micro-batch; reused from one to the next.</summary>
    public sealed class State
    {
        internal readonly GroupedLinears Products = new();
        internal Tensor Gate, Up;
        internal Operand Input, Hidden, GradOutput, GradGate, GradUp;
    }

    /// <summary>Adds the weights of an MLP of this width to <paramref name="parameters"/>.</summary>
    /// <param name="parameters">Where they are added.</param>
    /// <param name="prefix">Of their checkpoint names, with the dot.</param>
    /// <param name="hidden">D.</param>
    /// <param name="width">F.</param>
    /// <param name="recipe">Precision of the products and of the cache.</param>
    public static FeedForward Create(
        ParameterSet parameters, string prefix, int hidden, int width, PrecisionRecipe recipe) => new(
            parameters.AddLinear(prefix + "gate_proj.weight", new(width, hidden), recipe.Linear),
            parameters.AddLinear(prefix + "up_proj.weight", new(width, hidden), recipe.Linear),
            parameters.AddLinear(prefix + "down_proj.weight", new(hidden, width), recipe.Linear),
            recipe.SwiGluCache);

    /// <summary>output += MLP(input): the residual stream adds.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D], normalised.</param>
    /// <param name="output">[T, D]; added to, or overwritten.</param>
    /// <param name="state">Filled.</param>
    /// <param name="accumulate">Adds to the output.</param>
    public void Forward(
        IKernels kernels, Arena arena, Tensor input, Tensor output, State state, bool accumulate = true)
    {
        state.Input = Operand.Input(kernels, arena, input, gate.Precision);
        state.Gate = arena.Allocate(input.Rows, gate.Outputs);
        state.Up = arena.Allocate(input.Rows, gate.Outputs);
        state.Products.ForwardBoth(kernels, gate, state.Gate, up, state.Up, state.Input);
        state.Hidden = ProducedOperand.SwiGlu(kernels, arena, state.Gate, state.Up, down.Precision);
        down.Forward(kernels, state.Hidden, output, accumulate);
    }

    /// <summary>Gradient of the input; keeps what <see cref="BackwardWeight"/> needs.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="state">From the forward.</param>
    /// <param name="gradOutput">[T, D]; must live until <see cref="BackwardWeight"/>.</param>
    /// <param name="gradInput">[T, D].</param>
    /// <param name="accumulate">Adds to gradInput.</param>
    public void BackwardInput(
        IKernels kernels, Arena arena, State state, Tensor gradOutput, Tensor gradInput, bool accumulate)
    {
        Tensor gradHidden = arena.Allocate(gradOutput.Rows, gate.Outputs);
        state.GradOutput = Operand.Gradient(kernels, arena, gradOutput, down.Precision);
        down.BackwardInput(kernels, state.GradOutput, gradHidden);
        Differentiate(kernels, arena, state, gradHidden);
        gate.BackwardInput(kernels, state.GradGate, gradInput, accumulate);
        up.BackwardInput(kernels, state.GradUp, gradInput, accumulate: true);
        state.Input = state.Input.ForWeightGradient(kernels, arena, gate.Precision);
    }

    /// <summary>Adds the three weight gradients, at once or with the launch of <paramref name="gradients"/>.</summary>
    internal void BackwardWeight(IKernels kernels, WeightGradients gradients, State state)
    {
        gradients.Add(kernels, gate, state.GradGate, state.Input);
        gradients.Add(kernels, up, state.GradUp, state.Input);
        gradients.Add(kernels, down, state.GradOutput, state.Hidden);
    }

    /// <summary>Gradients of gate and up projections, and the activation as the weight gradient reads it.</summary>
    private void Differentiate(IKernels kernels, Arena arena, State state, Tensor gradHidden)
    {
        if (down.Precision == gate.Precision && ProducedOperand.MakesTiles(kernels, cache, gate.Precision))
        {
            (state.Hidden, state.GradGate, state.GradUp) = ProducedOperand.SwiGluBackward(
                kernels, arena, gradHidden, state.Gate, state.Up, cache!.Value, default, gate.Precision);
            return;
        }

        DType stored = ProducedOperand.StoredIn(kernels, gate.Precision);
        Tensor gradGate = arena.Allocate(gradHidden.Rows, gate.Outputs, stored);
        Tensor gradUp = arena.Allocate(gradHidden.Rows, gate.Outputs, stored);
        TurnHidden(kernels, arena, state);
        kernels.SwiGluBackward(gradHidden, state.Gate, state.Up, gradGate, gradUp);
        state.GradGate = Operand.Gradient(kernels, arena, gradGate, gate.Precision);
        state.GradUp = Operand.Gradient(kernels, arena, gradUp, up.Precision);
    }

    /// <summary>
    /// The activation as the weight gradient reads it; where its inputs were cached in tiles they are what these keep, and
    /// it is computed anew from them.
    /// </summary>
    private void TurnHidden(IKernels kernels, Arena arena, State state)
    {
        if (cache is not { } format)
        {
            state.Hidden = state.Hidden.ForWeightGradient(kernels, arena, down.Precision);
            return;
        }

        Operand.RoundToTiles(kernels, arena, state.Gate, format);
        Operand.RoundToTiles(kernels, arena, state.Up, format);
        state.Hidden = down.Precision.IsTiled
            ? ProducedOperand.SwiGluTurned(kernels, arena, state.Gate, state.Up, state.Hidden.Values, down.Precision)
            : ProducedOperand.SwiGlu(kernels, arena, state.Gate, state.Up, down.Precision);
    }
}
