using Krewe.Grains.Devices;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <content>Loading a stage and connecting it to the rest of the model.</content>
public sealed partial class PipelineStageGrain
{
    /// <inheritdoc/>
    public async Task<StageDescription> LoadAsync(ModelSource source)
    {
        PlacementPlan plan = await plans.GetAsync(_name);
        // Also where a new plan has put it at another place of the silo.
        GoTo(moves.EnsureAtHome(this.MigrateOnIdle, this.GetGrainId(), plan.PlaceOfCopy(_direction, _index)));
        using StepGate.Entry entry = Model.Gate.Enter(source.Attempt);
        ModelConfig config = ModelConfig.Parse(source.ConfigJson, "the load request");

        HostedStage hosted = Model.FindStage(_direction, _index) ?? Create(source, config, plan);
        try
        {
            await LoadTablesAsync(source, config, hosted.Stage.Range, plan);
            await FillAsync(hosted.Stage, source, plan);
        }
        catch
        {
            // Half filled, it must not be taken for a loaded one.
            if (hosted.Stage.Parameters.AppliedStep != source.Step || !hosted.Filled)
            {
                Model.RemoveStage(_direction, _index);
            }

            throw;
        }

        hosted.Filled = true;
        Connect(hosted, plan);
        ModelStage stage = hosted.Stage;
        return new(
            _host.Place, _host.Device.Name, stage.ParameterSets.Sum(parameters => parameters.Count),
            [.. stage.MoeLayers]);
    }

    private HostedStage Create(ModelSource source, ModelConfig config, PlacementPlan plan)
    {
        StageRange range = plan.RangeOf(_index, config.NumHiddenLayers);
        int positions = source.MaxPositions > 0 ? source.MaxPositions : config.MaxPositionEmbeddings;
        var fleet = new GrainExpertFleet(_name, _host.Device, _post, _host.Process, Model);
        // The copy for the other direction has the same parameters: on one device they are one.
        ModelStage? twin = FindTwin(plan)?.Stage;
        var stage = new ModelStage(config, range, _host.Device, fleet, positions, source.Recipe, twin);
        string name = $"stage {_index}{(_direction == 0 ? "" : " of direction 1")} of '{_name}'";
        var hosted = new HostedStage(name, stage, fleet, _host.Device);
        Model.Add(_direction, hosted);
        return hosted;
    }

    /// <summary>
    /// The copy for the other direction, where it stays at this place. One that is about to leave is no twin: nobody
    /// brings it to the step that is loaded.
    /// </summary>
    private HostedStage? FindTwin(PlacementPlan plan) =>
        plan.Directions == 2 && plan.PlaceOfCopy(1 - _direction, _index) == _host.Place
            ? Model.FindStage(1 - _direction, _index)
            : null;

    private async Task FillAsync(ModelStage stage, ModelSource source, PlacementPlan plan)
    {
        bool isNew = Model.FindStage(_direction, _index) is not { Filled: true };
        if (_direction == 1 && FindTwin(plan) is { Filled: true } twin
            && twin.Stage.Parameters == stage.Parameters && stage.Parameters.AppliedStep == source.Step)
        {
            // The twin was filled before: only the buffers are this copy's own. One that the plan has put elsewhere was not,
            // and is where it was left.
            await _host.Device.ReadAsync(kernels =>
            {
                foreach ((int layer, Tensor bias) in stage.Biases)
                {
                    kernels.Transfer(twin.Stage.Biases[layer], bias);
                }
            });
        }
        else if (NeedsFilling(source, stage.Parameters, isNew))
        {
            await sources.FillAsync(source, OwnerState.Of(stage), Model, restorer, isNew);
        }
    }

    /// <summary>True where an owner must be brought to the step of the source.</summary>
    private static bool NeedsFilling(ModelSource source, ParameterSet parameters, bool isNew) =>
        isNew || parameters.AppliedStep != source.Step || (source.Snapshot is null && source.Attempt > 0);

    /// <summary>Learns from the plan where experts and neighbours are.</summary>
    private void Connect(HostedStage hosted, PlacementPlan plan)
    {
        hosted.Fleet.Connect(plan, [.. plan.Silos.Select((silo, ordinal) =>
            Reach<IExpertHostGrain>(plan, ordinal, GrainKeys.Host(_name, silo)))], _host.Place);
        int stages = plan.SiloOfStage.Length;
        hosted.Previous = _index > 0 ? StageAt(_direction, _index - 1) : null;
        hosted.Next = _index < stages - 1 ? StageAt(_direction, _index + 1) : null;
        hosted.Mirror = plan.IsApart(_index) ? StageAt(1 - _direction, _index) : null;
        ConnectTables(hosted, plan);

        Neighbour<IPipelineStageGrain> StageAt(int direction, int stage) => Reach<IPipelineStageGrain>(
            plan, plan.SiloOfCopy(direction, stage), GrainKeys.Stage(_name, stage, direction));
    }

    private Neighbour<TGrain> Reach<TGrain>(PlacementPlan plan, int silo, string key)
        where TGrain : IGrainWithStringKey => Neighbour<TGrain>.Reach(
            GrainFactory, cluster.Value.ClusterId, _host.Place, plan.Silos[silo], plan.Peers[silo].Process, key);
}
