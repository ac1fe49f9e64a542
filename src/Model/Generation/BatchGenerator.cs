using System.Runtime.CompilerServices;

namespace Krewe.Model.Generation;

/// <summary>A prompt and how to go on.</summary>
/// <param name="Prompt">Token ids, at least one.</param>
/// <param name="MaxTokens">Most tokens to generate.</param>
/// <param name="StopTokens">Tokens that end the sequence; they are generated.</param>
/// <param name="Sampling">How tokens are chosen.</param>
public sealed record Continuation(int[] Prompt, int MaxTokens, int[] StopTokens, SamplingOptions Sampling);

/// <summary>One generated token.</summary>
/// <param name="Sequence">Which of the batch, from 0.</param>
/// <param name="Token">Token id.</param>
/// <param name="Index">Its number in the sequence, from 0.</param>
/// <param name="Finish">null until the last one: then <c>stop</c> or <c>length</c>.</param>
public readonly record struct GeneratedToken(int Sequence, int Token, int Index, string? Finish);

/// <summary>The stages of a model as a generation sees them: a session with a latent cache.</summary>
public interface IDecoder
{
    /// <summary>Opens the session anew, with an empty cache.</summary>
    /// <param name="capacities">Most tokens of each sequence.</param>
    Task OpenAsync(int[] capacities);

    /// <summary>
    /// Runs a step through all stages; gives the token that follows each of its sequences, and behind all of these, where
    /// the step wants several, the ones that follow those: a multiple of the number of sequences.
    /// </summary>
    Task<int[]> StepAsync(DecodeStep step);

    /// <summary>Frees the session.</summary>
    Task CloseAsync();
}

/// <summary>
/// Generates many sequences at once: their prompts first, some at a time, then a token of each that still goes on in every
/// step. Sequences end at different steps; each has the tokens that it would have alone.
/// </summary>
public static class BatchGenerator
{
    /// <summary>Tokens of prompts that are computed together: enough to keep a device busy, and little memory.</summary>
    private const int PromptTokensAtOnce = 4096;

    /// <summary>Most tokens of a sequence that a step is asked for: its host's share of their time is small by then.</summary>
    private const int MostAhead = 16;

    /// <summary>Generates; what it yields is what a step gave.</summary>
    /// <param name="decoder">The model.</param>
    /// <param name="requests">Prompts, at least one.</param>
    /// <param name="useCache">False computes whole sequences anew for every token, in the expanded form.</param>
    /// <param name="cancellation">Ends between two steps.</param>
    /// <exception cref="KreweException">A prompt is empty.</exception>
    public static async IAsyncEnumerable<GeneratedToken[]> RunAsync(
        IDecoder decoder, IReadOnlyList<Continuation> requests, bool useCache,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        if (requests.Any(request => request.Prompt.Length == 0))
        {
            throw new KreweException("the prompt is empty: give at least one token");
        }

        int[] capacities = [.. requests.Select(request => checked(request.Prompt.Length + request.MaxTokens))];
        Sequence[] all = [.. requests.Select((request, index) => new Sequence(index, request))];
        var live = new List<Sequence>(all.Where(sequence => sequence.Request.MaxTokens > 0));
        var ended = new List<int>();
        try
        {
            await decoder.OpenAsync(capacities);
            bool prompts = true;
            int ahead = 1;
            while (live.Count > 0)
            {
                if (!useCache && !prompts)
                {
                    await decoder.OpenAsync(capacities);
                    ended.Clear();
                }

                foreach (List<Sequence> group in prompts || !useCache ? Groups(live) : [live])
                {
                    cancellation.ThrowIfCancellationRequested();
                    int[] tokens = await decoder.StepAsync(
                        StepOf(group, prompts || !useCache, ended) with { Ahead = ahead });
                    ended.Clear();
                    for (int first = 0; first < tokens.Length && group.Exists(sequence => !sequence.Ended);
                        first += group.Count)
                    {
                        yield return Take(group, tokens.AsSpan(first, group.Count));
                    }
                }

                prompts = false;
                ended.AddRange(live.Where(sequence => sequence.Ended).Select(sequence => sequence.Index));
                live.RemoveAll(sequence => sequence.Ended);
                ahead = useCache ? AheadOf(live, ahead) : 1;
            }
        }
        finally
        {
            await decoder.CloseAsync();
        }
    }

    /// <summary>
    /// Tokens that the next step may give of each sequence: twice as many as the last, so that the first ones come at once
    /// and at most half of the work is for what is behind an end; as many as the shortest sequence still takes.
    /// </summary>
    private static int AheadOf(List<Sequence> live, int last) =>
        live.Count == 0 || live.Exists(sequence => sequence.Request.Sampling.Temperature > 0)
            ? 1
            : Math.Min(Math.Min(MostAhead, 2 * last), live.Min(sequence => sequence.Left));

    /// <summary>A token of each sequence that goes on.</summary>
    private static GeneratedToken[] Take(List<Sequence> group, ReadOnlySpan<int> tokens)
    {
        var taken = new List<GeneratedToken>(group.Count);
        for (int i = 0; i < group.Count; i++)
        {
            if (!group[i].Ended)
            {
                taken.Add(group[i].Take(tokens[i]));
            }
        }

        return [.. taken];
    }

    private static DecodeStep StepOf(List<Sequence> sequences, bool whole, List<int> ended)
    {
        int[] starts = new int[sequences.Count + 1];
        for (int i = 0; i < sequences.Count; i++)
        {
            starts[i + 1] = starts[i] + (whole ? sequences[i].Tokens.Count : 1);
        }

        return new()
        {
            Sequences = [.. sequences.Select(sequence => sequence.Index)],
            Starts = starts,
            Tokens = whole
                ? [.. sequences.SelectMany(sequence => sequence.Tokens)]
                : [.. sequences.Select(sequence => sequence.Tokens[^1])],
            Sampling = [.. sequences.Select(sequence => sequence.Request.Sampling)],
            Ended = [.. ended],
        };
    }

    /// <summary>Runs of sequences that are computed together.</summary>
    private static IEnumerable<List<Sequence>> Groups(List<Sequence> sequences)
    {
        var group = new List<Sequence>();
        int tokens = 0;
        foreach (Sequence sequence in sequences)
        {
            if (group.Count > 0 && tokens + sequence.Tokens.Count > PromptTokensAtOnce)
            {
                yield return group;
                group = [];
                tokens = 0;
            }

            group.Add(sequence);
            tokens += sequence.Tokens.Count;
        }

        if (group.Count > 0)
        {
            yield return group;
        }
    }

    private sealed class Sequence(int index, Continuation request)
    {
        public int Index { get; } = index;

        public Continuation Request { get; } = request;

        /// <summary>The prompt and what followed.</summary>
        public List<int> Tokens { get; } = [.. request.Prompt];

        public bool Ended { get; private set; }

        /// <summary>Tokens that it may still take.</summary>
        public int Left => Request.MaxTokens - (Tokens.Count - Request.Prompt.Length);

        public GeneratedToken Take(int token)
        {
            int number = Tokens.Count - Request.Prompt.Length;
            Tokens.Add(token);
            string? finish = Request.StopTokens.Contains(token) ? "stop"
                : number + 1 == Request.MaxTokens ? "length"
                : null;
            Ended = finish is not null;
            return new(Index, token, number, finish);
        }
    }
}
