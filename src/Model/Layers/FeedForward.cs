using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The SwiGLU MLP of dense layers and of the shared expert: down(silu(gate x) * up x).</summary>
/// <param name="gate">[F, D].</param>
/// <param name="up">[F, D].</param>
/// <param name="down">[D, F].</param>
public sealed class FeedForward(Parameter gate, Parameter up, Parameter down)
{
    /// <summary>Activations and gradients of one micro-batch; reused from one to the next.</summary>
    public sealed class State
    {
        internal Tensor Input, Gate, Up, Hidden, GradOutput, GradGate, GradUp;
    }

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
        int width = gate.Shape.D0;
        state.Input = input;
        state.Gate = arena.Allocate(input.Rows, width);
        state.Up = arena.Allocate(input.Rows, width);
        state.Hidden = arena.Allocate(input.Rows, width);
        kernels.Linear(input, gate.Value, state.Gate);
        kernels.Linear(input, up.Value, state.Up);
        kernels.SwiGlu(state.Gate, state.Up, state.Hidden);
        kernels.Linear(state.Hidden, down.Value, output, accumulate);
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
        int width = gate.Shape.D0;
        Tensor gradHidden = arena.Allocate(gradOutput.Rows, width);
        state.GradOutput = gradOutput;
        state.GradGate = arena.Allocate(gradOutput.Rows, width);
        state.GradUp = arena.Allocate(gradOutput.Rows, width);
        kernels.LinearBackwardInput(gradOutput, down.Value, gradHidden);
        kernels.SwiGluBackward(gradHidden, state.Gate, state.Up, state.GradGate, state.GradUp);
        kernels.LinearBackwardInput(state.GradGate, gate.Value, gradInput, accumulate);
        kernels.LinearBackwardInput(state.GradUp, up.Value, gradInput, accumulate: true);
    }

    /// <summary>Adds the three weight gradients.</summary>
    public void BackwardWeight(IKernels kernels, State state)
    {
        kernels.LinearBackwardWeight(state.GradGate, state.Input, gate.Gradient);
        kernels.LinearBackwardWeight(state.GradUp, state.Input, up.Gradient);
        kernels.LinearBackwardWeight(state.GradOutput, state.Hidden, down.Gradient);
    }
}
