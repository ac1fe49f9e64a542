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
public sealed class ExpertGrain(DeviceHost host, ParameterSources sources, PlacementPlans plans, StateRestorer restorer, GrainMoves moves) : Grain, IExpertGrain
{
    private string _name = "";
    private int _layer;
    private int _index;
    private Task? _loading;
    private long _batches;
    private long _tokens;
    private long _tokensBefore;

    private HostedModel Hosted => host.ModelOf(_name);

    /// <inheritdoc/>
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        (_name, _layer, _index) = GrainKeys.ParseExpert(this.GetPrimaryKeyString());
        _tokensBefore = Hosted.TokensOf(_layer, _index);
        return Task.CompletedTask;
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
        Silo = host.Silo,
        Device = host.Device.Name,
        Parameters = Hosted.FindExpert(_layer, _index)?.Parameters.Count ?? 0,
        Batches = _batches,
        Tokens = _tokens + Hosted.TokensOf(_layer, _index) - _tokensBefore,
    });

    private async Task ReadAsync(ModelSource source)
    {
        using StepGate.Entry entry = Hosted.Gate.Enter(source.Attempt);
        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");
        moves.EnsureAtHome(this.MigrateOnIdle, this.GetGrainId(), (await plans.GetAsync(_name)).SiloOf(_layer, _index));

        Expert? loaded = Hosted.FindExpert(_layer, _index);
        if (loaded?.Parameters.AppliedStep == source.Step)
        {
            return;
        }

        Expert expert = loaded ?? new Expert(
            config, host.Device, _layer, _index, source.Recipe);
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
