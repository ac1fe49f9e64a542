using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Orleans.Concurrency;

namespace Krewe.Grains.Experts;

/// <inheritdoc cref="IExpertHostGrain"/>
[GrainType(GrainTypes.Host), DevicePlacement, Reentrant, KeepAlive, Orleans.Placement.Immovable]
public sealed partial class ExpertHostGrain(
    DeviceHosts hosts, PlacementPlans plans, TensorPosts posts, FaultPoints faults)
    : Grain, IExpertHostGrain
{
    private readonly Dictionary<(int Layer, int Expert), IExpertGrain> _grains = [];
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
    public async Task<HostDescription> LoadAsync(ModelSource source)
    {
        using StepGate.Entry entry = Model.Gate.Enter(source.Attempt);
        Model.RunFolder = source.RunFolder;
        PlacementPlan plan = await plans.GetAsync(_name);
        int silo = Array.IndexOf(plan.Silos, _host.Place);
        await Task.WhenAll(plan.ExpertsOf(silo).Select(e =>
            GrainMoves.UntilAtHomeAsync(() => GrainOf(e.Layer, e.Expert).LoadAsync(source))));
        return new(_host.Place, _host.Process, _host.Device.Name, _host.Device.ReservedBytes);
    }

    /// <inheritdoc/>
    public async Task<SiloReadiness> BeginAsync(StepBegin begin)
    {
        bool anew = await Model.Gate.BeginAsync(begin.Attempt);
        if (anew)
        {
            _post.Discard(_name, begin.Attempt);
            _weights.Clear();
            GiveUpStep();
        }

        await Model.BeginAsync(begin.FirstSlot, anew);
        int[] steps = [.. Model.ParameterSets.Select(set => set.AppliedStep)];
        return new(steps.Length, steps.DefaultIfEmpty().Min(), steps.DefaultIfEmpty().Max());
    }

    /// <inheritdoc/>
    public async Task JoinAsync(int layer, StepCall call)
    {
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        PlacementPlan plan = await plans.GetAsync(_name);
        int place = Array.IndexOf(plan.Silos, _host.Place);
        int[] experts = [.. plan.ExpertsOf(place).Where(e => e.Layer == layer).Select(e => e.Expert)];
        await RunAsync(
            layer, experts.Length, i => (experts[i], 0), static (_, _) => { }, call.Priority, static batch => batch.Done);
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> ForwardAsync(ExpertForward request)
    {
        faults.Reached(FaultPoints.Forward, request.Call.Step, _host);
        using StepGate.Entry entry = Model.Gate.Enter(request.Call.Attempt);
        ExpertPass pass = await Model.PassAsync(request.Layer, request.Call.Slot, entry.Abandoned);
        pass.Received.Reset();
        pass.HasGradients = false;
        pass.Slice = request.Slice.Open();
        Tensor rows = await _post.OpenAsync(request.Rows, pass.Received, entry.Abandoned);
        ExpertSlice slice = pass.Slice;
        bool planned = slice.OnDevice is not null;
        bool copy = request.BackwardFollows && (planned || request.Rows.IsByReference);
        Tensor result = default;
        await RunAsync(
            request.Layer, slice.Experts.Count, i => (slice.Experts[i], slice.TokensOf(i)),
            (kernels, experts) => result = pass.Batch.Forward(kernels, slice, experts, rows, copy),
            request.Call.Priority, planned ? Submitted(entry) : static batch => batch.Done);
        return planned ? TensorParcel.Empty : await SendAsync(result, request.Process, request.Call, entry.Abandoned);
    }

    /// <inheritdoc/>
    public async Task<TensorParcel[]> BackwardAsync(ExpertBackward request)
    {
        using StepGate.Entry entry = Model.Gate.Enter(request.Call.Attempt);
        ExpertPass pass = Model.FindPass(request.Layer, request.Call.Slot)
            ?? throw new InvalidOperationException(
                $"no forward of layer {request.Layer}, slot {request.Call.Slot} came before its backward");
        pass.HasGradients = true;
        Tensor gradRows = await _post.OpenAsync(request.GradRows, pass.Received, entry.Abandoned);
        bool planned = pass.Slice.OnDevice is not null;
        ExpertGradients gradients = default;
        await RunAsync(
            request.Layer, pass, (kernels, _) => gradients = pass.Batch.Backward(kernels, gradRows),
            request.Call.Priority, planned ? Submitted(entry) : static batch => batch.Done);
        return planned ? [TensorParcel.Empty, TensorParcel.Empty] :
        [
            await SendAsync(gradients.Rows, request.Process, request.Call, entry.Abandoned),
            await SendAsync(gradients.Weights, request.Process, request.Call, entry.Abandoned),
        ];
    }

    /// <inheritdoc/>
    public Task BackwardWeightAsync(int layer, StepCall call)
    {
        StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        // What is left of an evaluation has nothing to add.
        ExpertPass? pass = Model.FindPass(layer, call.Slot) is { HasGradients: true } found ? found : null;
        if (Model.QueueOf(layer).Add(call.Slot, pass))
        {
            _weights.Add(TakeTurnsAsync(layer, entry));
        }
        else
        {
            entry.Dispose();
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task ReleaseAsync(long slot)
    {
        Model.Release(slot);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<TensorParcel> ReadAsync(string name, ParameterPart part, Guid process)
    {
        await WeightsAddedAsync();
        await Model.Behind.EndedAsync();
        (int layer, int index) = PlacementPlan.ExpertOf(name)
            ?? throw new ArgumentException($"'{name}' is no routed expert's parameter");
        Parameter parameter = Model.FindExpert(layer, index)?.Parameters.Find(name)
            ?? throw new ArgumentException($"'{name}' is not on silo '{_host.Place}'");
        return await (await _post.PostAsync(Parts.Of(parameter, part), process, _name + "/read")).ReplyAsync();
    }

    /// <inheritdoc/>
    public async Task UnloadAsync()
    {
        await Task.WhenAll(Model.Experts.Select(e => GrainOf(e.Layer, e.Index).UnloadAsync()));
        // What went on behind its call still reads what is freed here, and how it ends is nobody's business any more.
        await Model.Behind.EndedAsync().ConfigureAwait(
            ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        await _host.UnloadAsync(_name);
        plans.Forget(_name);
    }

    private async Task<TensorParcel> SendAsync(Tensor tensor, Guid process, StepCall call, CancellationToken abandoned) =>
        await (await _post.PostAsync(tensor, process, _name, call.Attempt, abandoned)).ReplyAsync();

    private Task RunAsync(
        int layer, ExpertPass pass, Action<IKernels, Expert[]> work, WorkPriority priority,
        Func<JoinedBatch, Task> until) =>
        RunAsync(
            layer, pass.Batch.Experts.Count, i => (pass.Batch.Experts[i].Index, pass.Batch.TokensOf(i)), work, priority,
            until);

    /// <summary>
    /// Announces a launch, lets the expert grains join it, and waits as long as <paramref name="until"/> says.
    /// </summary>
    private async Task RunAsync(
        int layer, int count, Func<int, (int Expert, int Tokens)> expert, Action<IKernels, Expert[]> work,
        WorkPriority priority, Func<JoinedBatch, Task> until)
    {
        HostedModel model = Model;
        JoinedBatch batch = model.Announce(count, work, priority);
        try
        {
            for (int i = 0; i < count; i++)
            {
                // Local calls complete in microseconds; one after the other they need no array of tasks.
                (int index, int tokens) = expert(i);
                await GrainOf(layer, index).JoinAsync(batch.Id, tokens);
            }

            await until(batch);
        }
        finally
        {
            model.Close(batch);
        }
    }

    /// <summary>
    /// Waits until a launch was submitted: for a stage of this silo, whose next work comes behind it on the device. How it
    /// ended is asked before a step is committed.
    /// </summary>
    private Func<JoinedBatch, Task> Submitted(StepGate.Entry entry) => batch =>
    {
        Model.Behind.Add(batch.Done, entry.Again());
        return batch.Submitted;
    };

    /// <summary>
    /// Waits until a launch has called its kernels, where all that comes later on the device runs behind them; else until it is
    /// done.
    /// </summary>
    private Func<JoinedBatch, Task> Launched(StepGate.Entry entry) => batch =>
    {
        if (!Model.GoesOn)
        {
            return batch.Done;
        }

        Model.Behind.Add(batch.Done, entry.Again());
        return batch.Launched;
    };

    private IExpertGrain GrainOf(int layer, int expert)
    {
        if (!_grains.TryGetValue((layer, expert), out IExpertGrain? grain))
        {
            grain = GrainFactory.GetGrain<IExpertGrain>(GrainKeys.Expert(_name, layer, expert));
            _grains.Add((layer, expert), grain);
        }

        return grain;
    }
}
