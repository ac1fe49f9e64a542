using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Orleans.Concurrency;
using Orleans.Placement;

namespace Krewe.Grains.Experts;

/// <inheritdoc cref="IExpertGrain"/>
[GrainType(GrainTypes.Expert), DevicePlacement, Reentrant, KeepAlive, Immovable]
public sealed class ExpertGrain(
    DeviceHosts hosts, ParameterSources sources, PlacementPlans plans, StateRestorer restorer, GrainMoves moves)
    : Grain, IExpertGrain
{
    private DeviceHost _host = null!;
    private string _name = "";
    private int _layer;
    private int _index;
    private Task? _loading;
    private long _batches;
    private long _tokens;
    private long _tokensBefore;

    private HostedModel Hosted => _host.ModelOf(_name);

    /// <inheritdoc/>
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        (_name, _layer, _index) = GrainKeys.ParseExpert(this.GetPrimaryKeyString());
        // Where the plan wants it on another silo, it is sent there when it is loaded.
        PlacementPlan? plan = await plans.FindAsync(_name);
        _host = (plan is null ? null : hosts.Find(plan.SiloOf(_layer, _index))) ?? hosts.First;
        _tokensBefore = Hosted.TokensOf(_layer, _index);
    }

    /// <inheritdoc/>
    public async Task LoadAsync(ModelSource source)
    {
        // Whoever comes while it is being read waits, then looks: an attempt that was given up may have wanted another step.
        while (_loading is { IsCompleted: false } reading)
        {
            await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }

        await (_loading = ReadAsync(source));
    }

    /// <inheritdoc/>
    public ValueTask JoinAsync(long batch, int tokens)
    {
        Hosted.Join(batch, _layer, _index);
        _batches++;
        _tokens += tokens;
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task MoveAsync() =>
        moves.Send(this.MigrateOnIdle, (await plans.GetAsync(_name)).SiloOf(_layer, _index));

    /// <inheritdoc/>
    public Task UnloadAsync()
    {
        // The weights are the gateway's to free; a new plan may put the expert elsewhere.
        DeactivateOnIdle();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<ExpertStatus> StatusAsync() => Task.FromResult(new ExpertStatus
    {
        Silo = _host.Place,
        Device = _host.Device.Name,
        Parameters = Hosted.FindExpert(_layer, _index)?.Parameters.Count ?? 0,
        Batches = _batches,
        Tokens = _tokens + Hosted.TokensOf(_layer, _index) - _tokensBefore,
    });

    private async Task ReadAsync(ModelSource source)
    {
        // A new plan may have put it at another place of the silo: the weights there are other ones.
        DeviceHost host = moves.EnsureAtHome(
            this.MigrateOnIdle, this.GetGrainId(), (await plans.GetAsync(_name)).SiloOf(_layer, _index));
        if (host != _host)
        {
            _tokens += Hosted.TokensOf(_layer, _index) - _tokensBefore;
            _host = host;
            _tokensBefore = Hosted.TokensOf(_layer, _index);
        }

        using StepGate.Entry entry = Hosted.Gate.Enter(source.Attempt);
        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");

        Expert? loaded = Hosted.FindExpert(_layer, _index);
        if (loaded?.Parameters.AppliedStep == source.Step)
        {
            return;
        }

        Expert expert = loaded ?? new Expert(
            config, _host.Device, _layer, _index, source.Recipe);
        try
        {
            await sources.FillAsync(source, OwnerState.Of(expert), Hosted, restorer, isNew: loaded is null);
        }
        catch
        {
            if (loaded is null)
            {
                expert.Dispose();
            }

            throw;
        }

        Hosted.Add(expert);
    }
}
