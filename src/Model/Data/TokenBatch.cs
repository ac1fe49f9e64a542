namespace Krewe.Model.Data;

/// <summary>
/// Windows of tokens and what follows each: the input and the answer of a training or evaluation step.
/// </summary>
/// <param name="sequences">B, the number of windows.</param>
/// <param name="length">T, the tokens of a window.</param>
public sealed class TokenBatch(int sequences, int length)
{
    /// <summary>The target of a position that is not to be predicted; losses leave it out.</summary>
    public const int NoTarget = -1;

    /// <summary>B, the number of windows.</summary>
    public int Sequences { get; } = sequences;

    /// <summary>T, the tokens of a window.</summary>
    public int Length { get; } = length;

    /// <summary>Token ids [B*T], window after window.</summary>
    public int[] Tokens { get; } = new int[sequences * length];

    /// <summary>The token that follows each of <see cref="Tokens"/> [B*T], or <see cref="NoTarget"/>.</summary>
    public int[] Targets { get; } = new int[sequences * length];

    /// <summary>Number of positions with a target: what a summed loss is divided by.</summary>
    public int TargetCount => Targets.Length - Targets.AsSpan().Count(NoTarget);
}
