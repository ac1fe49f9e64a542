namespace Krewe.Grains.Interfaces;

/// <summary>Where the states of a step are in the memory of the cluster.</summary>
[GenerateSerializer, Immutable, Alias("krewe.SnapshotSource")]
public sealed record SnapshotSource
{
    /// <summary>Optimizer steps that the states have behind them.</summary>
    [Id(0)] public required int Step { get; init; }

    /// <summary>Names of silos that may have an owner's state, the likeliest first.</summary>
    [Id(1)] public required Dictionary<string, string[]> Holders { get; init; }

    /// <summary>Silos that may have the state of an owner.</summary>
    public string[] HoldersOf(string owner) => Holders.GetValueOrDefault(owner, []);
}

/// <summary>A state that a run must go back to is in no memory any more.</summary>
[GenerateSerializer, Alias("krewe.SnapshotLostException")]
public sealed class SnapshotLostException : Exception
{
    /// <summary>Without a message.</summary>
    public SnapshotLostException()
    {
    }

    /// <summary>With a message.</summary>
    public SnapshotLostException(string message) : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    public SnapshotLostException(string message, Exception innerException) : base(message, innerException)
    {
    }
}
