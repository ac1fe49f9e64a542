using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Training;

/// <summary>
/// The routing bias of one MoE layer. Key: <c>run/layer</c>. Owns the float32 vector, its update rate and its history;
/// stages get the vector with every change. Never part of a weight or a gradient.
/// </summary>
[Alias("krewe.IRouterGrain")]
public interface IRouterGrain : IGrainWithStringKey
{
    /// <summary>Sets the vector, as loaded or resumed; updates of earlier attempts are refused from now on.</summary>
    [Alias("ResetAsync")]
    Task ResetAsync([Immutable] float[] bias, long attempt);

    /// <summary>
    /// b += gamma * sign(mean - load) over the global batch of a step, unless frozen; returns the vector. The same step
    /// twice moves it once. An empty vector where the router was activated anew, because its silo left: reset it first.
    /// </summary>
    [Alias("UpdateAsync")]
    Task<float[]> UpdateAsync(long step, [Immutable] long[] load, float speed, long attempt);

    /// <summary>Edits one expert's bias, with who and why; takes effect with the next step.</summary>
    [Alias("EditAsync")]
    Task EditAsync(int expert, float bias, string author, string reason);

    /// <summary>Freezes the vector, or lets it move again.</summary>
    [Alias("FreezeAsync")]
    Task FreezeAsync(bool frozen, string author);

    /// <summary>Vector, freeze, history and edits.</summary>
    [Alias("StatusAsync"), AlwaysInterleave]
    Task<RouterStatus> StatusAsync();
}

/// <summary>State of a router.</summary>
[GenerateSerializer, Immutable, Alias("krewe.RouterStatus")]
public sealed record RouterStatus
{
    /// <summary>[E].</summary>
    [Id(0)] public required float[] Bias { get; init; }

    /// <summary>True where updates are ignored.</summary>
    [Id(1)] public bool Frozen { get; init; }

    /// <summary>Last step whose loads moved the vector; -1 for none.</summary>
    [Id(2)] public long Step { get; init; }

    /// <summary>MaxVio of the last steps, oldest first.</summary>
    [Id(3)] public required double[] MaxViolations { get; init; }

    /// <summary>Edits and freezes, oldest first: who, what, why.</summary>
    [Id(4)] public required string[] Audit { get; init; }
}
