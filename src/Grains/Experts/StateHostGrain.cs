using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Orleans.Concurrency;
using Orleans.Placement;

namespace Krewe.Grains.Experts;

/// <inheritdoc cref="IStateHostGrain"/>
[GrainType(GrainTypes.State), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed class StateHostGrain(
    DeviceHosts hosts, PlacementPlans plans, TensorPosts posts, FaultPoints faults) : Grain, IStateHostGrain
{
    /// <summary>Ends the scope of states: they belong to no attempt at a step.</summary>
    private const string StateScope = "/state";

    private string _name = "";
    private DeviceHost _host = null!;
    private TensorPost _post = null!;

    private HostedModel Model => _host.ModelOf(_name);

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        (_name, string place) = GrainKeys.ParseHost(this.GetPrimaryKeyString());
        _host = hosts.Of(place);
        _post = posts.Of(_host);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<long> TakeSnapshotAsync(int step, long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        long bytes = 0;
        foreach (OwnerState owner in Model.Owners())
        {
            if (Model.Snapshots.Find(owner.Key, step).IsEmpty)
            {
                bytes += await SaveAsync(owner, step);
            }
        }

        return bytes;
    }

    /// <inheritdoc/>
    public async Task ShareSnapshotAsync(int step, TensorPeer peer)
    {
        using IDisposable pin = Model.Snapshots.Pin(step);
        IStateHostGrain grain = GrainFactory.GetGrain<IStateHostGrain>(GrainKeys.Host(_name, peer.Silo));
        foreach (OwnerState owner in Model.Owners())
        {
            Tensor state = Model.Snapshots.Find(owner.Key, step);
            if (state.IsEmpty)
            {
                continue;
            }

            PostedTensor posted = await _post.PostAsync(state, peer.Process, _name + StateScope);
            await posted.CompleteAsync(grain.KeepAsync(owner.Key, step, posted.Parcel));
        }
    }

    /// <inheritdoc/>
    public async Task KeepAsync(string owner, int step, TensorParcel state)
    {
        faults.Reached(FaultPoints.Snapshot, step, _host);
        Arena arena = Model.Snapshots.CreateArena(owner);
        try
        {
            Tensor kept = await _post.TakeOnHostAsync(state, arena);
            Model.Snapshots.Add(owner, step, arena, kept);
        }
        catch
        {
            arena.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public Task DropSnapshotsAsync(int[] keep, long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        Model.Snapshots.DropExcept(keep);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> ReadStateAsync(string owner, int step, Guid process)
    {
        Tensor state = Model.Snapshots.Find(owner, step);
        if (state.IsEmpty
            && Model.Owners().FirstOrDefault(o => o.Key == owner) is { } living && living.Parameters.AppliedStep == step)
        {
            await SaveAsync(living, step);
            state = Model.Snapshots.Find(owner, step);
        }

        using IDisposable pin = Model.Snapshots.Pin(step);
        return await SendAsync(state, process);
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> ReadSavedAsync(string owner, int step, string name, ParameterPart part, Guid process)
    {
        Tensor state = Model.Snapshots.Find(owner, step);
        faults.Reached(FaultPoints.Checkpoint, step, _host);
        Tensor view = state.IsEmpty ? default
            : Model.Owners().FirstOrDefault(o => o.Key == owner)?.View(state, name, part) ?? default;
        using IDisposable pin = Model.Snapshots.Pin(step);
        return await SendAsync(view, process);
    }

    /// <inheritdoc/>
    public async Task MoveGrainsAsync(long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        PlacementPlan plan = await plans.GetAsync(_name);
        int silo = Array.IndexOf(plan.Silos, _host.Place);
        await Task.WhenAll(Model.Experts.Where(e => plan.SiloOfExpert[e.Layer][e.Index] != silo).Select(e =>
            GrainFactory.GetGrain<IExpertGrain>(GrainKeys.Expert(_name, e.Layer, e.Index)).MoveAsync()));
        await Task.WhenAll(Model.StageKeys.Where(key => !IsHere(plan, silo, key)).Select(key =>
            GrainFactory.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(_name, key.Stage, key.Direction)).MoveAsync()));
    }

    /// <inheritdoc/>
    public async Task TrimAsync(long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        if (_host.Device.Loss.IsLost)
        {
            await _host.UnloadAsync(_name);
            return;
        }

        PlacementPlan plan = await plans.GetAsync(_name);
        int silo = Array.IndexOf(plan.Silos, _host.Place);
        HostedModel model = Model;
        // On the device, behind all work that touches the memory.
        await _host.Device.SubmitAsync(
            _ =>
            {
                foreach (Expert expert in model.Experts.Where(e => plan.SiloOfExpert[e.Layer][e.Index] != silo).ToArray())
                {
                    model.RemoveExpert(expert.Layer, expert.Index);
                }

                foreach ((int Direction, int Stage) key in model.StageKeys.Where(key => !IsHere(plan, silo, key)).ToArray())
                {
                    model.RemoveStage(key.Direction, key.Stage);
                }

                model.Tables.Trim(
                    embedding: plan.SilosOfTable(0).Contains(silo),
                    head: plan.SilosOfTable(plan.SiloOfStage.Length - 1).Contains(silo));
            },
            WorkPriority.Background);
    }

    private static bool IsHere(PlacementPlan plan, int silo, (int Direction, int Stage) key) =>
        key.Direction < plan.Directions && key.Stage < plan.SiloOfStage.Length
        && plan.SiloOfCopy(key.Direction, key.Stage) == silo;

    private async Task<long> SaveAsync(OwnerState owner, int step)
    {
        if (owner.Parameters.AppliedStep != step)
        {
            throw new InvalidOperationException(
                $"{owner.Key} of '{_name}' on silo '{_host.Place}' is at step {owner.Parameters.AppliedStep}, " +
                $"not {step}");
        }

        Arena arena = Model.Snapshots.CreateArena(owner.Key);
        Tensor state = default;
        await _host.Device.SubmitAsync(kernels =>
        {
            state = owner.Allocate(arena);
            owner.Save(kernels, state);
        });
        long bytes = arena.ReservedBytes;
        Model.Snapshots.Add(owner.Key, step, arena, state);
        return bytes;
    }

    private async Task<TensorParcel> SendAsync(Tensor tensor, Guid process) =>
        await (await _post.PostAsync(tensor, process, _name + StateScope)).ReplyAsync();
}
