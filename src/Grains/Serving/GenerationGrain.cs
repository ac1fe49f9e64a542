using System.Runtime.CompilerServices;
using Krewe.Grains.Interfaces.Serving;
using Krewe.Model.Generation;
using Orleans.Concurrency;

namespace Krewe.Grains.Serving;

/// <inheritdoc cref="IGenerationGrain"/>
[GrainType("krewe.generation"), Reentrant, KeepAlive]
public sealed class GenerationGrain : Grain, IGenerationGrain
{
    /// <summary>Sessions are numbered from here, so that they never meet the slots of a training step.</summary>
    private const long FirstSession = 1L << 32;

    private long _sessions = FirstSession;

    /// <inheritdoc/>
    public async IAsyncEnumerable<TokenUpdate> GenerateAsync(
        GenerationRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (GeneratedToken[] step in RunAsync([request], cancellationToken))
        {
            yield return UpdateOf(step[0]);
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<TokenUpdate[]> GenerateBatchAsync(
        GenerationRequest[] requests, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (GeneratedToken[] step in RunAsync(requests, cancellationToken))
        {
            yield return Array.ConvertAll(step, UpdateOf);
        }
    }

    private static TokenUpdate UpdateOf(GeneratedToken token) =>
        new(token.Token, token.Index, token.Finish, token.Sequence);

    private IAsyncEnumerable<GeneratedToken[]> RunAsync(GenerationRequest[] requests, CancellationToken cancellationToken) =>
        BatchGenerator.RunAsync(
            new GrainDecoder(
                GrainFactory.GetGrain<IPipelineStageGrain>(GrainKeys.Stage(this.GetPrimaryKeyString(), 0)), _sessions++),
            [.. requests.Select(request => request.ToContinuation())], requests.All(request => request.UseCache),
            cancellationToken);

    /// <summary>A session on the stages of the model; the first hands on to the next.</summary>
    private sealed class GrainDecoder(IPipelineStageGrain first, long session) : IDecoder
    {
        public Task OpenAsync(int[] capacities) => first.OpenSessionAsync(session, capacities);

        public Task<int[]> StepAsync(DecodeStep step) => first.DecodeAsync(session, step, TensorParcel.Empty);

        public Task CloseAsync() => first.ReleaseAsync(session);
    }
}
