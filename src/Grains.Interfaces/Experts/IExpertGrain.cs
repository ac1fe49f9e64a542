using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Experts;

/// <summary>
/// One routed expert. Key: <c>model/layer/expert/replica</c>. Pinned to the silo of the place that the placement plan
/// names; its weights live in that place's device store, the grain is a handle that attaches to them.
/// </summary>
/// <remarks>
/// Reentrant: it never computes in its turn, it joins batches that its silo's device runs for all at once.
/// </remarks>
[Alias("krewe.IExpertGrain")]
public interface IExpertGrain : IGrainWithStringKey
{
    /// <summary>Allocates the weights and fills them. Loading what is loaded already does nothing.</summary>
    [Alias("LoadAsync")]
    Task LoadAsync(ModelSource source);

    /// <summary>
    /// Joins a batch that the silo's gateway announced; the last of the announced experts to join starts the one
    /// grouped launch. Returns when it has joined, not when the launch is done.
    /// </summary>
    /// <param name="batch">Number of the batch on this silo.</param>
    /// <param name="tokens">Tokens that this expert got, for its counters.</param>
    [Alias("JoinAsync")]
    ValueTask JoinAsync(long batch, int tokens);

    /// <summary>Moves the grain to the silo that the plan names; its weights stay until the gateway frees them.</summary>
    [Alias("MoveAsync")]
    Task MoveAsync();

    /// <summary>Lets the grain go, so that it may be placed anew; its weights are freed by the gateway.</summary>
    [Alias("UnloadAsync")]
    Task UnloadAsync();

    /// <summary>Counters and place of the expert.</summary>
    [Alias("StatusAsync"), AlwaysInterleave]
    Task<ExpertStatus> StatusAsync();
}

/// <summary>Where an expert is and what it did since it was activated.</summary>
[GenerateSerializer, Immutable, Alias("krewe.ExpertStatus")]
public sealed record ExpertStatus
{
    /// <summary>Name of the place.</summary>
    [Id(0)] public required string Silo { get; init; }

    /// <summary>Name of the device.</summary>
    [Id(1)] public required string Device { get; init; }

    /// <summary>Number of parameters; 0 before loading.</summary>
    [Id(2)] public long Parameters { get; init; }

    /// <summary>Batches joined.</summary>
    [Id(3)] public long Batches { get; init; }

    /// <summary>Tokens received.</summary>
    [Id(4)] public long Tokens { get; init; }
}
