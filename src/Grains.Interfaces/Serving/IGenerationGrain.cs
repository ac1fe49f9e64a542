using Krewe.Model.Generation;
using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Serving;

/// <summary>Generation from one loaded model. Key: model name.</summary>
/// <remarks>Requests interleave token by token; each has a latent cache of its own on every stage.</remarks>
[Alias("krewe.IGenerationGrain")]
public interface IGenerationGrain : IGrainWithStringKey
{
    /// <summary>Generates tokens one by one; cancelling frees the caches at once.</summary>
    [Alias("GenerateAsync")]
    IAsyncEnumerable<TokenUpdate> GenerateAsync(GenerationRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Generates many sequences together, a token of each that goes on in every step; each has the tokens that it would
    /// have alone. An element is what one step gave. Cancelling frees the caches at once.
    /// </summary>
    [Alias("GenerateBatchAsync")]
    IAsyncEnumerable<TokenUpdate[]> GenerateBatchAsync(
        [Immutable] GenerationRequest[] requests, CancellationToken cancellationToken);
}

/// <summary>A prompt and how to go on.</summary>
[GenerateSerializer, Immutable, Alias("krewe.GenerationRequest")]
public sealed record GenerationRequest
{
    /// <summary>Prompt token ids, at least one.</summary>
    [Id(0)] public required int[] Prompt { get; init; }

    /// <summary>Most tokens to generate.</summary>
    [Id(1)] public int MaxTokens { get; init; } = 128;

    /// <summary>Tokens that end the generation; they are returned.</summary>
    [Id(2)] public int[] StopTokens { get; init; } = [];

    /// <summary>How tokens are chosen.</summary>
    [Id(3)] public SamplingOptions Sampling { get; init; } = SamplingOptions.Greedy;

    /// <summary>False computes the whole sequence anew for every token, in the expanded form.</summary>
    [Id(4)] public bool UseCache { get; init; } = true;

    /// <summary>The same as a generator takes it.</summary>
    public Continuation ToContinuation() => new(Prompt, MaxTokens, StopTokens, Sampling);
}

/// <summary>One generated token.</summary>
/// <param name="Token">Token id.</param>
/// <param name="Index">Its number, from 0.</param>
/// <param name="Finish">null until the last one: then <c>stop</c> or <c>length</c>.</param>
/// <param name="Sequence">Which request of a batch, from 0.</param>
[GenerateSerializer, Immutable, Alias("krewe.TokenUpdate")]
public sealed record TokenUpdate(
    [property: Id(0)] int Token, [property: Id(1)] int Index, [property: Id(2)] string? Finish,
    [property: Id(3)] int Sequence = 0);
