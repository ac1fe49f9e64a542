using Krewe.Grains.Devices;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <content>
/// Embedding and head: direction 0's copies of the first and last stage have them. Those of direction 1 that live
/// elsewhere have their own, or are served where the plan keeps the two once (docs/decisions/0009).
/// </content>
public sealed partial class PipelineStageGrain
{
    /// <inheritdoc/>
    public async Task<TensorParcel> EmbedAsync(StepCall call, int[] tokens, Guid process)
    {
        HostedStage hosted = Hosted;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        TokenEmbedding embedding = hosted.Stage.Embedding ?? throw NotHere("embedding");
        Arena arena = hosted.Lent;
        arena.Reset();
        Tensor rows = default;
        await _host.Device.SubmitAsync(
            kernels => rows = embedding.Forward(kernels, arena, arena.Upload(kernels, tokens.AsSpan())), call.Priority);
        return await SendAsync(rows, process, call, entry);
    }

    /// <inheritdoc/>
    public async Task AddEmbeddingGradientsAsync(EmbeddingGradients gradients)
    {
        HostedStage hosted = Hosted;
        StepCall call = gradients.Call;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        TokenEmbedding embedding = hosted.Stage.Embedding ?? throw NotHere("embedding");
        Arena arena = hosted.TakeArena();
        try
        {
            var rows = new StageActivations(
                await _post.OpenAsync(gradients.Hidden, arena, entry.Abandoned),
                await _post.OpenAsync(gradients.Embeddings, arena, entry.Abandoned));
            await _host.Device.SubmitAsync(kernels => embedding.BackwardWeight(
                kernels, call.Slot, arena.Upload(kernels, gradients.Tokens.AsSpan()), rows));
        }
        finally
        {
            hosted.GiveBack(arena);
        }
    }

    /// <inheritdoc/>
    public async Task<HeadReply> RunHeadAsync(HeadRequest request)
    {
        HostedStage hosted = Hosted;
        StepCall call = request.Call;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        OutputHead head = hosted.Stage.Head ?? throw NotHere("head");
        Arena arena = hosted.Lent;
        arena.Reset();
        Tensor hidden = await _post.OpenAsync(request.Hidden, arena, entry.Abandoned);
        Tensor targets = await _post.OpenAsync(request.Targets, arena, entry.Abandoned);
        var state = new OutputHead.State();
        Tensor gradHidden = default;
        await _host.Device.SubmitAsync(
            kernels =>
            {
                head.Forward(kernels, arena, hidden, targets, (float)request.GradScale, keepLogits: false, state);
                gradHidden = arena.Allocate(hidden.Rows, hidden.Columns);
                head.BackwardInput(kernels, state, gradHidden);
                head.BackwardWeight(kernels, call.Slot, state);
            },
            call.Priority);
        return new(
            await SendAsync(state.Losses, request.Process, call, entry),
            await SendAsync(gradHidden, request.Process, call, entry));
    }

    /// <summary>Allocates and fills embedding and head where this stage has them.</summary>
    private async Task LoadTablesAsync(ModelSource source, ModelConfig config, StageRange range, PlacementPlan plan)
    {
        HostedTables tables = Model.Tables;
        // Where both copies of the stage are here, direction 0's was loaded before.
        bool loads = _direction == 0 || (plan.TableReplicas && plan.IsApart(_index));
        if (loads && range.IsFirst)
        {
            await LoadTableAsync(
                source, tables.Embedding, () => new TokenEmbedding(config, _host.Device), OwnerState.Of, tables.Keep,
                tables.RemoveEmbedding);
        }

        if (loads && range.IsLast)
        {
            await LoadTableAsync(
                source, tables.Head,
                () => new OutputHead(config, _host.Device, source.Recipe), OwnerState.Of,
                tables.Keep, tables.RemoveHead);
        }
    }

    private async Task LoadTableAsync<T>(
        ModelSource source, T? loaded, Func<T> create, Func<T, OwnerState> stateOf, Action<T> keep, Action remove)
        where T : class
    {
        T table = loaded ?? create();
        keep(table);
        OwnerState state = stateOf(table);
        if (!NeedsFilling(source, state.Parameters, isNew: loaded is null))
        {
            return;
        }

        try
        {
            await sources.FillAsync(source, state, Model, restorer, isNew: loaded is null);
        }
        catch
        {
            // Half filled, it must not be taken for a loaded one.
            remove();
            throw;
        }
    }

    /// <summary>The tables on this silo, or those of the copy that has them.</summary>
    private void ConnectTables(HostedStage hosted, PlacementPlan plan)
    {
        ModelStage stage = hosted.Stage;
        Neighbour<IPipelineStageGrain>? owner = _direction == 1 && !plan.TableReplicas ? hosted.Mirror : null;
        HostedTables tables = Model.Tables;
        stage.Embedding = stage.Range.IsFirst && owner is null ? tables.Embedding : null;
        stage.Head = stage.Range.IsLast && owner is null ? tables.Head : null;
        stage.RemoteHead = stage.Range.IsLast && owner is not null ? new RemoteHead(owner, _post, _name) : null;
        hosted.RemoteEmbedding = stage.Range.IsFirst && owner is not null ? new(owner, _post, _name) : null;
        hosted.Mirrored = plan.TableReplicas ? [.. stage.ParameterSets] : [stage.Parameters];
    }

    private InvalidOperationException NotHere(string table) =>
        new($"the {table} of '{_name}' is not with stage {_index}, direction {_direction}, on silo '{_host.Place}'");

    private async Task<TensorParcel> SendAsync(Tensor tensor, Guid process, StepCall call, StepGate.Entry entry) =>
        await (await _post.PostAsync(tensor, process, _name, call.Attempt, entry.Abandoned)).ReplyAsync();
}
