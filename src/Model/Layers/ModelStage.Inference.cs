using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>Generation with a latent cache, and tensors by name for checks.</content>
public sealed partial class ModelStage
{
    /// <summary>Opens a session with an empty cache for <paramref name="capacity"/> tokens.</summary>
    public void OpenSession(long session, int capacity)
    {
        Slot held = SlotOf(session);
        held.Cache?.Dispose();
        held.Cache = new(_device, Range.LayerCount, Config.KvLoraRank + Config.QkRopeHeadDim, capacity);
    }

    /// <summary>
    /// Runs the next tokens of a session: the first stage takes <paramref name="tokens"/>, later ones
    /// <paramref name="hidden"/>.
    /// </summary>
    /// <returns>The residual stream [R, D], on the last stage the logits of the last row [1, V]; and the position of
    /// the next token.</returns>
    /// <param name="session">An open session.</param>
    /// <param name="tokens">R token ids.</param>
    /// <param name="hidden">[R, D] from the previous stage.</param>
    public async Task<(Tensor Output, long Position)> DecodeAsync(long session, int[] tokens, Tensor hidden)
    {
        Slot held = SlotOf(session);
        LatentKvCache cache = held.Cache
            ?? throw new InvalidOperationException($"session {session} is not open on stage {Range.Index}");
        held.Arena.Reset();
        int step = cache.Length;
        held.Layout = TokenLayout.Create(held.Arena, [0, tokens.Length], step);
        var pass = new ForwardPass(held.Layout, _rotaryTable, null, cache, Range.FirstLayer);
        Tensor logits = default;
        Tensor stream = await _runner.ForwardAsync(
            held.Blocks, held.Arena, kernels => Embed(kernels, held, tokens, hidden), pass, session, step,
            Range.IsLast ? (kernels, output) => logits = LastLogits(kernels, held, output) : null);
        cache.Advance(tokens.Length);
        return (Range.IsLast ? logits : stream, cache.Length);
    }

    private Tensor LastLogits(IKernels kernels, Slot held, Tensor stream)
    {
        RmsNorm.Saved normed = _norm!.Forward(kernels, held.Arena, stream.SliceRows(stream.Rows - 1, 1));
        return _head!.Logits(kernels, held.Arena, normed.Output);
    }

    /// <summary>
    /// A tensor of the slot's last forward by the name that reference files use: <c>layer_output.i</c>,
    /// <c>router_logits.i</c>, <c>topk_indices.i</c>, <c>topk_weights.i</c>, <c>final_hidden</c>, <c>logits</c>,
    /// <c>mtp_logits.k</c>; empty where this stage has no such tensor.
    /// </summary>
    public Tensor Activation(long slot, string name)
    {
        Slot held = SlotOf(slot);
        string[] parts = name.Split('.');
        int number = parts.Length > 1 ? int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture) : 0;
        TransformerBlock.State? block = held.Blocks.FirstOrDefault(entry => entry.Block.Layer == number).State;
        return parts[0] switch
        {
            "layer_output" => block?.Output ?? default,
            "router_logits" => block?.Moe.Router.Logits ?? default,
            "topk_indices" => block?.Moe.Router.Indices ?? default,
            "topk_weights" => block?.Moe.Router.Weights ?? default,
            "final_hidden" => held.Norm.Output,
            "logits" => held.Head.Logits,
            "mtp_logits" when number >= 1 && number <= held.Mtp.Length => held.Mtp[number - 1].Head.Logits,
            _ => default,
        };
    }
}
