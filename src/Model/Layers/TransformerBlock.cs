using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>
/// One pre-norm block: x += attention(norm x); x += ffn(norm x), the second half dense or a mixture of experts. The MoE
/// half comes in pieces, so that the caller can wait for the experts' hosts between them.
/// </summary>
public sealed class TransformerBlock
{
    private readonly RmsNorm _attentionNorm;
    private readonly WeightGradients _weightGradients = new();
    private readonly MultiHeadLatentAttention _attention;
    private readonly RmsNorm _feedForwardNorm;
    private readonly FeedForward? _dense;

    /// <summary>Adds the weights of layer <paramref name="layer"/> to <paramref name="parameters"/>.</summary>
    public TransformerBlock(
        ModelConfig config, ParameterSet parameters, Arena buffers, int layer, PrecisionRecipe recipe)
    {
        Layer = layer;
        string prefix = $"model.layers.{layer}.";
        float epsilon = (float)config.RmsNormEps;
        _attentionNorm = new(parameters.Add(prefix + "input_layernorm.weight", new(config.HiddenSize)), epsilon);
        _attention = new(config, parameters, layer, recipe);
        _feedForwardNorm = new(
            parameters.Add(prefix + "post_attention_layernorm.weight", new(config.HiddenSize)), epsilon);
        if (config.IsMoeLayer(layer))
        {
            Moe = new(config, parameters, buffers, layer, recipe);
        }
        else
        {
            _dense = FeedForward.Create(parameters, prefix + "mlp.", config.HiddenSize, config.IntermediateSize, recipe);
        }
    }

    /// <summary>Layer number in checkpoint names.</summary>
    public int Layer { get; }

    /// <summary>The MoE half, or null in a dense block.</summary>
    public MoeLayer? Moe { get; }

    /// <summary>Activations and gradients of one micro-batch.</summary>
    public sealed class State
    {
        /// <summary>The residual stream after the block [T, D].</summary>
        public Tensor Output { get; internal set; }

        /// <summary>The MoE half's state.</summary>
        public MoeLayer.State Moe { get; } = new();

        internal readonly MultiHeadLatentAttention.State Attention = new();
        internal readonly FeedForward.State Dense = new();
        internal RmsNorm.Saved AttentionNorm, FeedForwardNorm;
        internal Tensor GradNormed, GradAttentionNormed, GradMid, GradInput;
    }

    /// <summary>
    /// The attention half and, in a dense block, the rest; in a MoE block up to the rows for the experts' hosts.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D]: the residual stream.</param>
    /// <param name="pass">Layout, rotary table, cache and balance loss of this pass.</param>
    /// <param name="topology">Where the layer's experts live; null in a dense block.</param>
    /// <param name="state">Filled.</param>
    public void Forward(
        IKernels kernels, Arena arena, Tensor input, ForwardPass pass, ExpertTopology? topology, State state)
    {
        state.Output = CopyOf(kernels, arena, input, pass);
        state.AttentionNorm = _attentionNorm.Forward(kernels, arena, input, _attention.Precision, out Operand normed);
        if (pass.Cached is { } cached)
        {
            _attention.ForwardCached(
                kernels, arena, normed, state.Output, pass.Layout, pass.RotaryTable,
                cached.PagesOf(Layer, pass.Layout), cached.Expanded, state.Attention);
        }
        else
        {
            _attention.Forward(
                kernels, arena, normed, state.Output, pass.Layout, pass.RotaryTable, state.Attention);
        }

        // The norm's backward needs the stream as it was between the halves; the output grows in a copy.
        Tensor mid = state.Output;
        state.FeedForwardNorm = _feedForwardNorm.Forward(kernels, arena, mid);
        state.Output = CopyOf(kernels, arena, mid, pass);
        if (Moe is null)
        {
            _dense!.Forward(kernels, arena, state.FeedForwardNorm.Output, state.Output, state.Dense);
        }
        else
        {
            Moe.Dispatch(
                kernels, arena, state.FeedForwardNorm.Output, pass.Layout, topology!, pass.Balance, state.Moe);
        }
    }

    /// <summary>Where a half adds to the stream: a copy that the stream's norm can be taken back from, or the stream itself
    /// where nothing is.</summary>
    private static Tensor CopyOf(IKernels kernels, Arena arena, Tensor stream, ForwardPass pass)
    {
        if (pass.Repeats)
        {
            return stream;
        }

        Tensor copy = arena.Allocate(stream.Rows, stream.Columns);
        kernels.Copy(stream, copy);
        return copy;
    }

    /// <summary>The shared expert, while the routed tokens are away.</summary>
    public void ForwardShared(IKernels kernels, Arena arena, State state) =>
        Moe!.ForwardShared(kernels, arena, state.Output, state.Moe);

    /// <summary>
    /// The first piece of the backward: in a dense block all of it, in a MoE block up to the gradient rows for the
    /// hosts.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gradOutput">[T, D]; must live until <see cref="BackwardWeight"/>.</param>
    /// <param name="state">From the forward.</param>
    public void Backward(IKernels kernels, Arena arena, Tensor gradOutput, State state)
    {
        state.GradMid = arena.Allocate(gradOutput.Rows, gradOutput.Columns);
        kernels.Copy(gradOutput, state.GradMid);
        if (Moe is not null)
        {
            MoeLayer.DispatchBackward(kernels, arena, gradOutput, state.Moe);
            return;
        }

        state.GradNormed = arena.Allocate(gradOutput.Rows, gradOutput.Columns);
        _dense!.BackwardInput(kernels, arena, state.Dense, gradOutput, state.GradNormed, accumulate: false);
        BackwardAttention(kernels, arena, state);
    }

    /// <summary>The shared expert's backward, while the gradients are away.</summary>
    public void BackwardShared(IKernels kernels, Arena arena, State state) =>
        Moe!.BackwardShared(kernels, arena, state.Moe);

    /// <summary>The rest of a MoE block's backward, once the hosts have answered.</summary>
    public void CombineBackward(IKernels kernels, Arena arena, BalanceLossOptions balance, State state)
    {
        state.GradNormed = Moe!.CombineBackward(kernels, arena, balance, state.Moe);
        BackwardAttention(kernels, arena, state);
    }

    /// <summary>Adds the weight gradients of the block (the routed experts' are their hosts' affair).</summary>
    public void BackwardWeight(IKernels kernels, State state)
    {
        Moe?.BackwardWeight(kernels, _weightGradients, state.Moe);
        _dense?.BackwardWeight(kernels, _weightGradients, state.Dense);
        _feedForwardNorm.BackwardWeight(kernels, state.FeedForwardNorm, state.GradNormed);
        _attention.BackwardWeight(kernels, _weightGradients, state.Attention);
        _weightGradients.Launch(kernels);
        _attentionNorm.BackwardWeight(kernels, state.AttentionNorm, state.GradAttentionNormed);
    }

    private void BackwardAttention(IKernels kernels, Arena arena, State state)
    {
        Tensor gradMid = state.GradMid;
        _feedForwardNorm.BackwardInput(kernels, state.FeedForwardNorm, state.GradNormed, gradMid, accumulate: true);
        state.GradAttentionNormed = arena.Allocate(gradMid.Rows, gradMid.Columns);
        _attention.BackwardInput(kernels, arena, state.Attention, gradMid, state.GradAttentionNormed);
        state.GradInput = arena.Allocate(gradMid.Rows, gradMid.Columns);
        kernels.Copy(gradMid, state.GradInput);
        _attentionNorm.BackwardInput(
            kernels, state.AttentionNorm, state.GradAttentionNormed, state.GradInput, accumulate: true);
    }
}
