using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Grains.Training;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Silo.Hosting;
using Microsoft.Extensions.DependencyInjection;

namespace Krewe.Cluster;

/// <summary>Bytes of parameters, gradients and moments in the device stores, by schedule and number of silos.</summary>
internal static class ParameterMemory
{
    private const double MB = 1e6;

    public static async Task RunAsync(BenchmarkOptions options)
    {
        ModelConfig config = ModelPresets.Get(options.Preset ?? "docs-26m");
        double single = 0;
        foreach (int silos in (int[])[4, 2])
        {
            await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
                new() { Silos = silos, CpuThreads = options.Threads });
            foreach (PipelineMethod method in (PipelineMethod[])[PipelineMethod.Sequential, PipelineMethod.DualPipe])
            {
                string name = $"memory-{method.Name()}";
                await using ClusterModel model = await ClusterModel.CreateAsync(
                    cluster.Grains, name,
                    new() { ConfigJson = config.ToJson(), Seed = 1, Training = true, MaxPositions = 64 },
                    cluster.SiloNames, new PipelineLayout(method, 4));
                HostedModel[] stores = [.. cluster.SiloNames.Select((_, silo) =>
                    cluster.ServicesOf(silo).GetRequiredService<DeviceHosts>().First.ModelOf(name))];
                ParameterSet[] sets = [.. stores.SelectMany(store => store.ParameterSets)];
                double values = Sum(sets, set => set.All.Sum(parameter => Bytes(parameter.Value)));
                double gradients = Sum(sets, set => set.GradientBanks.Sum(Bytes));
                double moments = Sum(
                    sets, set => set.All.Sum(parameter => Bytes(parameter.FirstMoment) + Bytes(parameter.SecondMoment)));
                double stages = Sum(
                    stores.SelectMany(store => store.Stages.Select(stage => stage.Parameters)).Distinct(),
                    set => set.All.Sum(parameter => Bytes(parameter.Value)));
                double tables = Sum(sets, set => set.All
                    .Where(parameter => parameter.Name is DeepSeekNames.EmbedTokens or DeepSeekNames.LmHead)
                    .Sum(parameter => Bytes(parameter.Value)));
                single = single == 0 ? values : single;
                Console.WriteLine(
                    $"{method.Name()}, 4 ranks on {silos} silos: parameters {values:F1} MB, {values / single:F3} of one copy (stages " +
                    $"{stages:F1}, embedding and head {tables:F1}, routed experts {values - stages - tables:F1}); gradients " +
                    $"{gradients:F1}, moments {moments:F1} MB");
            }
        }
    }

    private static double Sum(IEnumerable<ParameterSet> sets, Func<ParameterSet, long> bytes) => sets.Sum(bytes) / MB;

    private static long Bytes(Tensor tensor) => tensor.IsEmpty ? 0 : tensor.Count * tensor.DType.SizeInBytes();
}
