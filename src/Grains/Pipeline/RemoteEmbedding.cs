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
    private Task _last = Task.CompletedTask;

    /// <summary>Process identity of the owner's silo.</summary>
    public Guid Process => owner.Process;

    /// <summary>The rows of a micro-batch's tokens [T, D], in the arena; the tokens are kept for the backward.</summary>
    public async Task<Tensor> ForwardAsync(StepCall call, int[] tokens, Arena arena, CancellationToken abandoned)
    {
        lock (_lock)
        {
            _tokens[call.Slot] = tokens;
        }

        TensorParcel rows = await owner.CallAsync(grain => grain.EmbedAsync(call, tokens, post.Process)).WaitAsync(abandoned);
        return await post.TakeAsync(rows, arena, abandoned);
    }

    /// <summary>
    /// Hands over the gradients of a micro-batch. The owner gets them in the order of the calls, one after the other: a sum
    /// must not depend on their race.
    /// </summary>
    public Task BackwardAsync(StepCall call, StageActivations gradients, CancellationToken abandoned)
    {
        lock (_lock)
        {
            _tokens.Remove(call.Slot, out int[]? tokens);
            return _last = SendAsync(
                _last, call, tokens ?? throw new InvalidOperationException($"no forward of slot {call.Slot} came before its backward"),
                gradients, abandoned);
        }
    }

    /// <summary>Forgets every micro-batch: the attempt was abandoned.</summary>
    public void Clear()
    {
        lock (_lock)
        {
            _tokens.Clear();
            _last = Task.CompletedTask;
        }
    }

    private async Task SendAsync(
        Task before, StepCall call, int[] tokens, StageActivations gradients, CancellationToken abandoned)
    {
        await before;
        PostedTensor hidden = post.Post(gradients.Hidden, owner.Process, scope, call.Attempt, abandoned);
        PostedTensor embeddings = post.Post(gradients.Embeddings, owner.Process, scope, call.Attempt, abandoned);
        var message = new EmbeddingGradients(call, tokens, hidden.Parcel, embeddings.Parcel);
        await hidden.CompleteAsync(embeddings.CompleteAsync(
            owner.CallAsync(grain => grain.AddEmbeddingGradientsAsync(message)).WaitAsync(abandoned)));
    }
}
