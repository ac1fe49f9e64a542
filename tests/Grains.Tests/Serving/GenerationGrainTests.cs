using Krewe.Client;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Grains.Training;
using Krewe.Model;
using Krewe.Model.Configuration;
using Krewe.Model.Generation;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
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
    public async Task Requests_of_a_batch_have_the_tokens_of_each_alone()
    {
        GenerationRequest[] requests =
        [
            new() { Prompt = Prompt, MaxTokens = 12, Sampling = new(Temperature: 1, Seed: 7) },
            new() { Prompt = [1, 2], MaxTokens = 20 },
            new() { Prompt = [.. Prompt, 9], MaxTokens = 5, Sampling = new(Temperature: 1, TopK: 9, Seed: 8) },
        ];
        await using EmbeddedCluster cluster = await StartAsync(2);
        await using ClusterModel model = await LoadAsync(cluster, 2);
        int[][] together = await BatchAsync(cluster, requests);
        for (int i = 0; i < requests.Length; i++)
        {
            Assert.Equal(requests[i].MaxTokens, together[i].Length);
            Assert.Equal((await BatchAsync(cluster, [requests[i]]))[0], together[i]);
        }
    }

    [Fact]
    public async Task Steps_that_a_device_repeats_have_the_same_tokens_and_every_expert_joins()
    {
        GenerationRequest[] requests =
        [
            new() { Prompt = Prompt, MaxTokens = 12, Sampling = new(Temperature: 1, Seed: 7) },
            new() { Prompt = [1, 2], MaxTokens = 20 },
        ];
        int[][] expected;
        await using (EmbeddedCluster called = await StartAsync(1))
        {
            await using ClusterModel model = await LoadAsync(called, 1);
            expected = await BatchAsync(called, requests);
        }

        SeparateMemoryDevice? device = null;
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = 1, Device = inner => device = new(inner) }, TestContext.Current.CancellationToken);
        await using ClusterModel repeated = await LoadAsync(cluster, 1);
        Assert.Equal(expected, await BatchAsync(cluster, requests));
        Assert.Equal(19, device!.Repetitions);
        for (int expert = 0; expert < repeated.Config.NRoutedExperts; expert++)
        {
            // Two steps were made: of two sequences, and of the one that was left.
            Assert.InRange((await new KreweClient(cluster.Grains).ExpertAsync("text", 1, expert)).Batches, 2, 100);
        }
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

    private static async Task<int[][]> BatchAsync(EmbeddedCluster cluster, GenerationRequest[] requests)
    {
        var tokens = Array.ConvertAll(requests, _ => new List<int>());
        await foreach (TokenUpdate[] step in new KreweClient(cluster.Grains).GenerateBatchAsync("text", requests))
        {
            foreach (TokenUpdate update in step)
            {
                tokens[update.Sequence].Add(update.Token);
            }
        }

        return Array.ConvertAll(tokens, list => list.ToArray());
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
