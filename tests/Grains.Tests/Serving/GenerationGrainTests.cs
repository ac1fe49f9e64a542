using Krewe.Client;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Training;
using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Silo.Hosting;
using Xunit;

namespace Krewe.Grains.Tests.Serving;

/// <summary>Generation through the grains: the same tokens for any number of silos, with the cache and without.</summary>
public class GenerationGrainTests
{
    private static readonly int[] Prompt = [5, 80, 101, 7];

    [Fact]
    public async Task Silos_stages_and_the_cache_do_not_change_a_token()
    {
        var sampling = new SamplingOptions(Temperature: 1, TopP: 0.9f, Seed: 7);
        int[] expected = await GenerateAsync(1, 1, new() { Prompt = Prompt, MaxTokens = 24, Sampling = sampling });
        Assert.Equal(24, expected.Length);
        Assert.True(expected.Distinct().Count() > 3);
        Assert.Equal(
            expected, await GenerateAsync(3, 2, new() { Prompt = Prompt, MaxTokens = 24, Sampling = sampling }));
        Assert.Equal(
            expected,
            await GenerateAsync(2, 2, new() { Prompt = Prompt, MaxTokens = 24, Sampling = sampling, UseCache = false }));
    }

    [Fact]
    public async Task A_reader_who_leaves_frees_the_session()
    {
        await using EmbeddedCluster cluster = await StartAsync(2);
        await using ClusterModel model = await LoadAsync(cluster, 2);
        var krewe = new KreweClient(cluster.Grains);
        long before = await ReservedAsync(cluster);
        using var leaving = new CancellationTokenSource();
        int seen = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            var request = new GenerationRequest { Prompt = Prompt, MaxTokens = 100_000 };
            await foreach (TokenUpdate _ in krewe.GenerateAsync("text", request, leaving.Token)
                .WithCancellation(leaving.Token))
            {
                if (++seen == 5)
                {
                    await leaving.CancelAsync();
                }
            }
        });
        Assert.InRange(seen, 5, 200);
        // The grain's own turn ends a moment after the reader's.
        for (int i = 0; i < 200 && (await ReservedAsync(cluster) > before || ProcessExchange.Count > 0); i++)
        {
            await Task.Yield();
        }

        Assert.InRange(await ReservedAsync(cluster), 0, before);
    }

    [Fact]
    public async Task An_empty_prompt_is_refused()
    {
        KreweException refused = await Assert.ThrowsAsync<KreweException>(
            () => GenerateAsync(1, 1, new() { Prompt = [], MaxTokens = 3 }));
        Assert.Contains("prompt", refused.Message, StringComparison.Ordinal);
    }

    private static async Task<int[]> GenerateAsync(int silos, int stages, GenerationRequest request)
    {
        await using EmbeddedCluster cluster = await StartAsync(silos);
        await using ClusterModel model = await LoadAsync(cluster, stages);
        var tokens = new List<int>();
        await foreach (TokenUpdate update in new KreweClient(cluster.Grains).GenerateAsync("text", request))
        {
            tokens.Add(update.Token);
        }

        return [.. tokens];
    }

    private static Task<EmbeddedCluster> StartAsync(int silos) =>
        EmbeddedCluster.StartAsync(new() { Silos = silos }, TestContext.Current.CancellationToken);

    private static Task<ClusterModel> LoadAsync(EmbeddedCluster cluster, int stages) => ClusterModel.CreateAsync(
        cluster.Grains, "text",
        new() { ConfigJson = (ModelPresets.Get("tiny") with { InitializerRange = 0.2 }).ToJson(), Seed = 4 },
        cluster.SiloNames, stages);

    private static async Task<long> ReservedAsync(EmbeddedCluster cluster)
    {
        long total = 0;
        foreach (string silo in cluster.SiloNames)
        {
            total += (await cluster.Grains.GetGrain<IDeviceGrain>(silo).StatusAsync()).ReservedBytes;
        }

        return total;
    }
}
