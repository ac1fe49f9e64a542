namespace Krewe.Model.Generation;

/// <summary>
/// The next tokens of some sequences of a session: whole prompts, of sequences whose cache is empty, or a token each of
/// sequences that go on.
/// </summary>
public sealed record DecodeStep
{
    /// <summary>The sequences that take part, S of them, each once.</summary>
    public required int[] Sequences { get; init; }

    /// <summary>S + 1 rising offsets into <see cref="Tokens"/>, the first 0.</summary>
    public required int[] Starts { get; init; }

    /// <summary>Token ids, at least one of each sequence.</summary>
    public required int[] Tokens { get; init; }

    /// <summary>How the token behind each sequence is chosen: S of them.</summary>
    public required SamplingOptions[] Sampling { get; init; }

    /// <summary>
    /// Most tokens that are wanted of each sequence, one behind the other, where all are greedy and each brings one token:
    /// a stage that has the whole model may give as many at once. None of them is beyond the sequence's capacity.
    /// </summary>
    public int Ahead { get; init; } = 1;

    /// <summary>Sequences that are over: their pages are given to others before anything is computed.</summary>
    public int[] Ended { get; init; } = [];

    /// <summary>The whole prompt of sequences 0, 1, ... in one step.</summary>
    public static DecodeStep Of(IReadOnlyList<int[]> tokens, IReadOnlyList<SamplingOptions> sampling)
    {
        int[] starts = new int[tokens.Count + 1];
        for (int s = 0; s < tokens.Count; s++)
        {
            starts[s + 1] = starts[s] + tokens[s].Length;
        }

        return new()
        {
            Sequences = [.. Enumerable.Range(0, tokens.Count)],
            Starts = starts,
            Tokens = [.. tokens.SelectMany(one => one)],
            Sampling = [.. sampling],
        };
    }
}
