using System.Diagnostics;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Training;
using Krewe.Model.Configuration;
using Krewe.Silo.Hosting;

namespace Krewe.Cluster;

/// <summary>Decoding one sequence through the grains: 128 tokens after a prompt of 64.</summary>
internal static class DecodingSpeed
{
    private const int PromptTokens = 64;
    private const int NewTokens = 128;

    public static async Task RunAsync(BenchmarkOptions options)
    {
        string folder = options.Path ?? throw new ArgumentException("decode needs the folder of a checkpoint");
        ModelConfig config = ModelConfig.Load(folder);
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = options.Silos, CpuThreads = options.Threads });
        await using ClusterModel model = await ClusterModel.CreateAsync(
            cluster.Grains, "decode", new() { ConfigJson = config.ToJson(), Checkpoint = Path.GetFullPath(folder) },
            cluster.SiloNames, stages: Math.Min(2, options.Silos));
        IGenerationGrain generation = cluster.Grains.GetGrain<IGenerationGrain>("decode");
        var random = new Random(3);
        int[] prompt = [.. Enumerable.Range(0, PromptTokens).Select(_ => random.Next(5, config.VocabSize))];
        var rates = new List<double>();
        double others = await Machine.OthersDuringAsync(async () =>
        {
            for (int round = -2; round < options.Rounds; round++)
            {
                long started = 0;
                int made = 0;
                await foreach (TokenUpdate _ in generation.GenerateAsync(
                    new() { Prompt = prompt, MaxTokens = NewTokens }, CancellationToken.None))
                {
                    // The first token belongs to the prefill.
                    started = made++ == 0 ? Stopwatch.GetTimestamp() : started;
                }

                if (round >= 0)
                {
                    rates.Add((made - 1) / Stopwatch.GetElapsedTime(started).TotalSeconds);
                }
            }
        });
        Console.WriteLine(
            $"decode {NewTokens} after {PromptTokens}, batch 1, {options.Silos} silos, {options.Threads} thread(s), " +
            $"tokens/s: {Machine.Spread(rates)}; other processes used {others:F2} cores");
    }
}
