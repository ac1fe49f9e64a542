namespace Krewe.Model.Training;

/// <summary>The tokens of one micro-batch: sequences laid end to end, each causal on its own.</summary>
/// <param name="Tokens">[T]: token ids.</param>
/// <param name="Targets">[T]: the token that follows, -1 where none is known or none should be learnt.</param>
/// <param name="SequenceStarts">S + 1 rising offsets, from 0 to T.</param>
public sealed record MicroBatch(int[] Tokens, int[] Targets, int[] SequenceStarts)
{
    /// <summary>Sequences of equal length, the targets given.</summary>
    public static MicroBatch Equal(int[] tokens, int[] targets, int length) => new(
        tokens, targets, [.. Enumerable.Range(0, (tokens.Length / length) + 1).Select(s => s * length)]);

    /// <summary>Whole texts: the targets are the tokens shifted by one, none for the last of each.</summary>
    public static MicroBatch OfTexts(IReadOnlyList<int[]> texts)
    {
        int[] tokens = [.. texts.SelectMany(text => text)];
        var starts = new int[texts.Count + 1];
        var targets = new int[tokens.Length];
        for (int s = 0; s < texts.Count; s++)
        {
            starts[s + 1] = starts[s] + texts[s].Length;
            for (int i = starts[s]; i < starts[s + 1]; i++)
            {
                targets[i] = i + 1 < starts[s + 1] ? tokens[i + 1] : -1;
            }
        }

        return new(tokens, targets, starts);
    }

    /// <summary>
    /// Number of rows that depth <paramref name="depth"/> learns from: 0 is the main model; depth k uses row i of a
    /// sequence of length n where i + k &lt; n and row i + k has a target.
    /// </summary>
    public int TargetCount(int depth)
    {
        int count = 0;
        for (int s = 0; s + 1 < SequenceStarts.Length; s++)
        {
            for (int i = SequenceStarts[s] + depth; i < SequenceStarts[s + 1]; i++)
            {
                count += Targets[i] >= 0 ? 1 : 0;
            }
        }

        return count;
    }
}
