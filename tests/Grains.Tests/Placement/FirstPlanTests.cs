using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Placement;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Placement;

/// <summary>Embedding and head in a plan: held once where a second copy would weigh, for every number of silos alike.</summary>
public class FirstPlanTests
{
    [Theory]
    [InlineData("671b", 0.0027, true)]
    [InlineData("16b", 0.027, true)]
    [InlineData("tiny", 0.030, true)]
    [InlineData("docs-26m", 0.16, false)]
    public void Embedding_and_head_have_replicas_where_they_do_not_weigh(string preset, double share, bool replicas)
    {
        ModelConfig config = ModelPresets.Get(preset);

        Assert.Equal(share, ParameterCounts.Of(config).TableShare, share / 20);
        for (int silos = 1; silos <= 4; silos++)
        {
            Assert.Equal(replicas, Plan(config, silos).TableReplicas);
            Assert.False(Plan(config, silos, PipelineMethod.OneForwardOneBackward).TableReplicas);
        }
    }

    [Fact]
    public void Replicas_are_with_direction_1_and_their_states_with_the_silos_behind()
    {
        PlacementPlan apart = Plan(ModelPresets.Get("tiny"), 4), together = Plan(ModelPresets.Get("tiny"), 2);
        Dictionary<string, string[]> holders = ClusterModel.HoldersOf(apart);

        Assert.Equal([0, 3], apart.SilosOfTable(0));
        Assert.Equal([3, 0], apart.SilosOfTable(3));
        Assert.Equal([0], together.SilosOfTable(0));
        Assert.Equal([0], together.SilosOfTable(3));
        Assert.Equal(["silo-0", "silo-1", "silo-3"], holders["embedding"].Order());
        Assert.Equal(["silo-0", "silo-1", "silo-3"], holders["head"].Order());
        Assert.Equal(["silo-0", "silo-1"], ClusterModel.HoldersOf(Plan(ModelPresets.Get("docs-26m"), 4))["embedding"]);
    }

    private static PlacementPlan Plan(ModelConfig config, int silos, PipelineMethod method = PipelineMethod.DualPipe) =>
        FirstPlan.Create(
            config, [.. Enumerable.Range(0, silos).Select(silo => new TensorPeer($"silo-{silo}", Guid.Empty))],
            new PipelineLayout(method, 4), version: 1);
}
