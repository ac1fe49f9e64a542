using Krewe.Grains.Devices;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <summary>The embedding as the copy of the first stage sees it whose silo does not have it.</summary>
/// <param name="owner">The copy that has it.</param>
/// <param name="post">Sends and opens tensors.</param>
/// <param name="scope">Model or run name.</param>
internal sealed class RemoteEmbedding(Neighbour<IPipelineStageGrain> owner, TensorPost post, string scope)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<long, int[]> _tokens = [];
    private readonly SerialCalls _lookups = new();
    private readonly SerialCalls _gradients = new();

    /// <summary>Process identity of the owner's silo.</summary>
    public Guid Process => owner.Process;

    /// <summary>The rows of a micro-batch's tokens [T, D], in the arena; the tokens are kept for the backward.</summary>
    public Task<Tensor> ForwardAsync(StepCall call, int[] tokens, Arena arena, CancellationToken abandoned)
    {
        lock (_lock)
        {
            _tokens[call.Slot] = tokens;
        }

        // The owner's rows live until its next call.
        return _lookups.RunAsync(() => AskAsync(call, tokens, arena, abandoned));
    }

    private async Task<Tensor> AskAsync(StepCall call, int[] tokens, Arena arena, CancellationToken abandoned)
    {
        TensorParcel rows = await owner.CallAsync(grain => grain.EmbedAsync(call, tokens, post.Process)).WaitAsync(abandoned);
        return await post.TakeAsync(rows, arena, abandoned);
    }

    /// <summary>
    /// Hands over the gradients of a micro-batch. The owner gets them in the order of the calls, one after the other: a sum
    /// must not depend on their race.
    /// </summary>
    public Task BackwardAsync(StepCall call, StageActivations gradients, CancellationToken abandoned)
    {
        int[]? tokens;
        lock (_lock)
        {
            _tokens.Remove(call.Slot, out tokens);
        }

        return _gradients.RunAsync(() => SendAsync(
            call, tokens ?? throw new InvalidOperationException($"no forward of slot {call.Slot} came before its backward"),
            gradients, abandoned));
    }

    /// <summary>Forgets every micro-batch: the attempt was abandoned.</summary>
    public void Clear()
    {
        lock (_lock)
        {
            _tokens.Clear();
        }
    }

    private async Task SendAsync(StepCall call, int[] tokens, StageActivations gradients, CancellationToken abandoned)
    {
        PostedTensor hidden = await post.PostAsync(gradients.Hidden, owner.Process, scope, call.Attempt, abandoned);
        PostedTensor embeddings = await post.PostAsync(gradients.Embeddings, owner.Process, scope, call.Attempt, abandoned);
        var message = new EmbeddingGradients(call, tokens, hidden.Parcel, embeddings.Parcel);
        await hidden.CompleteAsync(embeddings.CompleteAsync(
            owner.CallAsync(grain => grain.AddEmbeddingGradientsAsync(message)).WaitAsync(abandoned)));
    }
}
