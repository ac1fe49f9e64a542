using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Placement;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Placement;

/// <summary>
/// Plans by the order of places: embedding and head, which are held once where a second copy would weigh, for every
/// number of silos alike; ranks, experts and snapshots on several devices of a silo.
/// </summary>
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

    [Fact]
    public void Stages_and_experts_spread_over_the_devices_of_a_silo()
    {
        PlacementPlan plan = Plan(
            ModelPresets.Get("tiny"), PipelineMethod.OneForwardOneBackward, "a", "a:1", "a:2", "a:3");

        Assert.Equal([0, 1, 2, 3], plan.SiloOfStage);
        Assert.Equal("a:2", plan.PlaceOfCopy(0, 2));
        Assert.Equal([0, 1, 2, 3], plan.SiloOfExpert.Values.First().Distinct().Order());
    }

    /// <summary>Ranks r and P-1-r exchange the gradients of the stages that both hold.</summary>
    [Theory]
    [InlineData("a b c d", "a b c d")]
    [InlineData("a a:1 b b:1", "a b b:1 a:1")]
    [InlineData("a a:1 a:2", "a a:1 a:2 a")]
    [InlineData("a a:1", "a a:1 a:1 a")]
    [InlineData("a a:1 a:2 b", "a a:2 b a:1")]
    [InlineData("a a:1 b b:1 c c:1", "a c c:1 a:1")]
    [InlineData("a a:1 a:2 a:3 b b:1 b:2 b:3", "a b b:1 a:1")]
    public void Mirror_ranks_prefer_one_place_and_then_one_silo(string places, string ofRanks)
    {
        PlacementPlan plan = Plan(ModelPresets.Get("tiny"), PipelineMethod.DualPipe, places.Split(' '));

        // Of four ranks, rank r holds stage r of direction 0.
        Assert.Equal(ofRanks, string.Join(' ', Enumerable.Range(0, 4).Select(rank => plan.PlaceOfCopy(0, rank))));
        Assert.All(
            Enumerable.Range(0, 4), rank => Assert.Equal(plan.PlaceOfCopy(0, rank), plan.PlaceOfCopy(1, 3 - rank)));
    }

    [Theory]
    [InlineData("a", "a")]
    [InlineData("a b c", "b c a")]
    [InlineData("a a:1 a:2", "a:1 a:2 a")]
    [InlineData("a a:1 b b:1", "b b:1 a a:1")]
    [InlineData("a a:1 a:2 b", "b b b a")]
    [InlineData("a:1 b c c:2", "b c a:1 a:1")]
    public void Snapshots_are_kept_by_another_silo_where_there_is_one(string places, string keepers)
    {
        PlacementPlan plan = Plan(ModelPresets.Get("tiny"), PipelineMethod.Sequential, places.Split(' '));

        Assert.Equal(keepers, string.Join(' ', plan.Silos.Select((_, place) => plan.Silos[plan.KeeperOf(place)])));
        Dictionary<string, string[]> holders = ClusterModel.HoldersOf(plan);
        Assert.Equal(
            plan.Silos.Length, holders.Values.SelectMany(places => places).Distinct().Count());
    }

    private static PlacementPlan Plan(ModelConfig config, PipelineMethod method, params string[] places) =>
        FirstPlan.Create(
            config, [.. places.Select(place => new TensorPeer(place, Guid.Empty))], new PipelineLayout(method, 4),
            version: 1);

    private static PlacementPlan Plan(ModelConfig config, int silos, PipelineMethod method = PipelineMethod.DualPipe) =>
        FirstPlan.Create(
            config, [.. Enumerable.Range(0, silos).Select(silo => new TensorPeer($"silo-{silo}", Guid.Empty))],
            new PipelineLayout(method, 4), version: 1);
}
