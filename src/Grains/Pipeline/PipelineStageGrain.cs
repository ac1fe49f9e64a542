using System.Diagnostics;
using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Microsoft.Extensions.Options;
using Orleans.Concurrency;
using Orleans.Configuration;
using Orleans.Placement;

namespace Krewe.Grains.Pipeline;

/// <inheritdoc cref="IPipelineStageGrain"/>
[GrainType(GrainTypes.Stage), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed partial class PipelineStageGrain(
    DeviceHosts hosts, PlacementPlans plans, ParameterSources sources, TensorPosts posts, StateRestorer restorer,
    GrainMoves moves, IOptions<ClusterOptions> cluster)
    : Grain, IPipelineStageGrain
{
    /// <summary>Longest wait for a neighbour: shorter than the coordinator's, so that its message is the one that is read.</summary>
    private static readonly TimeSpan DeliveryDeadline = TimeSpan.FromMinutes(8);

    private DeviceHost _host = null!;
    private TensorPost _post = null!;
    private string _name = "";
    private int _direction;
    private int _index;

    private HostedModel Model => _host.ModelOf(_name);

    /// <summary>The stage in the silo's store: a grain that was activated anew finds it there.</summary>
    private HostedStage Hosted => Model.FindStage(_direction, _index)
        ?? throw new InvalidOperationException(
            $"stage {_index}, direction {_direction} of '{_name}' is not loaded on silo '{_host.Place}'");

    /// <inheritdoc/>
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        (_name, _direction, _index) = GrainKeys.ParseStage(this.GetPrimaryKeyString());
        // Where the plan wants it on another silo, it is sent there when it is loaded.
        PlacementPlan? plan = await plans.FindAsync(_name);
        GoTo((plan is null ? null : hosts.Find(plan.PlaceOfCopy(_direction, _index))) ?? hosts.First);
    }

    /// <inheritdoc/>
    public async Task AcceptAsync(StageDelivery delivery)
    {
        HostedStage hosted = Hosted;
        using StepGate.Entry entry = Model.Gate.Enter(delivery.Call.Attempt);
        // The sender's memory goes to another micro-batch as soon as it is through with this one: always a copy.
        Arena arena = hosted.ArenaFor(delivery.Call.Slot, delivery.Gradients);
        Tensor hidden = await _post.TakeAsync(delivery.Hidden, arena, entry.Abandoned);
        Tensor embeddings = await _post.TakeAsync(delivery.Embeddings, arena, entry.Abandoned);
        hosted.Deliver(delivery.Call.Slot, delivery.Gradients, new(hidden, embeddings));
    }

    /// <inheritdoc/>
    public async Task<StageReport> ForwardAsync(StepCall call, MicroBatch batch, ForwardOptions options)
    {
        HostedStage hosted = Hosted;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        await Model.TurnAsync(call, entry.Abandoned);
        long called = Stopwatch.GetTimestamp();
        StageActivations input = await InputAsync(hosted, call, batch, entry.Abandoned);
        double waited = Stopwatch.GetElapsedTime(called).TotalSeconds;
        SlotCall work = WorkOf(call, entry);
        SubmittedWorks? behind = hosted.IsAlone ? new(_host.Device) : null;
        StageActivations output = await TellAsync(hosted.Stage.ForwardAsync(work, batch, input, options, behind));
        ForwardReport told = hosted.Stage.ReportOf(call.Slot);
        if (behind is not null)
        {
            Task<StageReport> follows = ReadAsync(told, behind, waited);
            Model.Behind.Add(follows, entry.Again());
            hosted.AddReport(call.Slot, follows);
            return new(null, [], waited, Delivers: false, Follows: true);
        }

        StageReport report = Read(told, waited);
        return hosted.Next is { } next
            ? report with { Delivers = await HandOnAsync(hosted, next, call, gradients: false, output, entry.Abandoned) }
            : report;
    }

    /// <inheritdoc/>
    public async Task<StageReport> BackwardAsync(StepCall call, bool weightGradients)
    {
        HostedStage hosted = Hosted;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        await Model.TurnAsync(call, entry.Abandoned);
        long called = Stopwatch.GetTimestamp();
        StageActivations gradOutput = hosted.Next is null
            ? default
            : await hosted.TakeAsync(call.Slot, gradients: true, DeliveryDeadline, entry.Abandoned);
        double waited = Stopwatch.GetElapsedTime(called).TotalSeconds;
        SubmittedWorks? behind = hosted.IsAlone ? new(_host.Device) : null;
        StageActivations gradInput = await TellAsync(
            hosted.Stage.BackwardAsync(WorkOf(call, entry), gradOutput, weightGradients, behind));
        GoOn(behind, entry);
        bool delivers = await HandBackAsync(hosted, call, gradInput, entry.Abandoned);
        if (weightGradients)
        {
            hosted.EndOf(call.Slot);
        }

        return new(null, [], waited, delivers);
    }

    /// <inheritdoc/>
    public Task DeliveredAsync(StepCall call, bool gradients) => Hosted.TakeDelivery(call.Slot, gradients);

    /// <inheritdoc/>
    public async Task BackwardWeightAsync(StepCall call)
    {
        HostedStage hosted = Hosted;
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        SubmittedWorks? behind = hosted.IsAlone ? new(_host.Device) : null;
        await TellAsync(hosted.Stage.BackwardWeightAsync(WorkOf(call, entry), behind));
        GoOn(behind, entry);
        hosted.EndOf(call.Slot);
    }

    /// <inheritdoc/>
    public async Task SetBiasAsync(int layer, float[] bias, long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        Task set = Hosted.Stage.SetBiasAsync(layer, bias);
        if (Model.GoesOn)
        {
            Model.Behind.Add(set, entry.Again());
            return;
        }

        await set;
    }

    /// <inheritdoc/>
    public async Task MoveAsync()
    {
        PlacementPlan plan = await plans.GetAsync(_name);
        moves.Send(this.MigrateOnIdle, plan.PlaceOfCopy(_direction, _index));
    }

    /// <inheritdoc/>
    public Task UnloadAsync()
    {
        // The memory is the gateway's to free; a new plan may put the stage elsewhere.
        DeactivateOnIdle();
        return Task.CompletedTask;
    }

    /// <summary>Works at a place of this silo from now on.</summary>
    private void GoTo(DeviceHost host) => (_host, _post) = (host, posts.Of(host));

    private static SlotCall WorkOf(StepCall call, StepGate.Entry entry) =>
        new(call.Slot, call.Step, call.Attempt, call.Turn, entry.Abandoned);

    /// <summary>What a forward begins with: the previous stage's activations, or the rows of an embedding elsewhere.</summary>
    private static async Task<StageActivations> InputAsync(
        HostedStage hosted, StepCall call, MicroBatch batch, CancellationToken abandoned)
    {
        if (hosted.RemoteEmbedding is { } embedding)
        {
            Arena arena = hosted.ArenaFor(call.Slot, gradients: false);
            Tensor rows = await embedding.ForwardAsync(call, batch.Tokens, arena, abandoned);
            return new(rows, rows);
        }

        return hosted.Previous is null
            ? default
            : await hosted.TakeAsync(call.Slot, gradients: false, DeliveryDeadline, abandoned);
    }

    /// <summary>Hands gradients to the previous stage, or to an embedding elsewhere.</summary>
    private Task<bool> HandBackAsync(
        HostedStage hosted, StepCall call, StageActivations gradInput, CancellationToken abandoned)
    {
        if (hosted.RemoteEmbedding is { } embedding)
        {
            return HandOnAsync(
                hosted, embedding.Process, call, gradients: true, gradInput,
                (value, given) => embedding.BackwardAsync(call, value, given), abandoned);
        }

        return hosted.Previous is { } previous
            ? HandOnAsync(hosted, previous, call, gradients: true, gradInput, abandoned)
            : Task.FromResult(false);
    }

    private Task<bool> HandOnAsync(
        HostedStage hosted, Neighbour<IPipelineStageGrain> neighbour, StepCall call, bool gradients,
        StageActivations value, CancellationToken abandoned) => HandOnAsync(
            hosted, neighbour.Process, call, gradients, value,
            (given, token) => DeliverAsync(neighbour, call, gradients, given, token), abandoned);

    /// <summary>
    /// Hands a result to a neighbour. Within the process that is done when this ends; to another process the result
    /// travels while this stage computes on, and true is returned.
    /// </summary>
    private async Task<bool> HandOnAsync(
        HostedStage hosted, Guid process, StepCall call, bool gradients, StageActivations value,
        Func<StageActivations, CancellationToken, Task> deliver, CancellationToken abandoned)
    {
        if (process == _host.Process)
        {
            await deliver(value, abandoned);
            return false;
        }

        hosted.AddDelivery(call.Slot, gradients, TravelAsync(hosted, call, gradients, value, deliver));
        return true;
    }

    /// <summary>
    /// Delivers behind the back of the call that made the value. Activations stay in place until the gradients come
    /// back; a gradient's memory goes to another micro-batch once the weight gradients were taken: it is copied first.
    /// </summary>
    private async Task TravelAsync(
        HostedStage hosted, StepCall call, bool gradients, StageActivations value,
        Func<StageActivations, CancellationToken, Task> deliver)
    {
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        if (!gradients)
        {
            await deliver(value, entry.Abandoned);
            return;
        }

        Arena arena = hosted.TakeArena();
        try
        {
            // Both are copied, or submitted to be, before this first waits: ahead of whatever takes their memory.
            Task<Tensor> copied = _host.Device.CopyAsync(value.Hidden, arena);
            Task<Tensor> embeddings = _host.Device.CopyAsync(value.Embeddings, arena);
            value = new(await copied, await embeddings);
            await deliver(value, entry.Abandoned);
        }
        finally
        {
            hosted.GiveBack(arena);
        }
    }

    private async Task DeliverAsync(
        Neighbour<IPipelineStageGrain> neighbour, StepCall call, bool gradients, StageActivations value,
        CancellationToken abandoned)
    {
        PostedTensor hidden = await _post.PostAsync(value.Hidden, neighbour.Process, _name, call.Attempt, abandoned);
        PostedTensor embeddings = await _post.PostAsync(
            value.Embeddings, neighbour.Process, _name, call.Attempt, abandoned);
        var delivery = new StageDelivery(call, gradients, hidden.Parcel, embeddings.Parcel);
        await hidden.CompleteAsync(embeddings.CompleteAsync(
            neighbour.CallAsync(grain => grain.AcceptAsync(delivery)).WaitAsync(abandoned)));
    }
}
