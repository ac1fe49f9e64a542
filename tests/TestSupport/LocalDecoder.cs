using Krewe.Model.Generation;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.TestSupport;

/// <summary>The stages of a model, one after the other, as a decoder.</summary>
/// <param name="model">The model.</param>
public sealed class LocalDecoder(LocalModel model) : IDecoder
{
    private const long Session = 1;

    /// <summary>Steps that were asked for.</summary>
    public int Calls { get; private set; }

    /// <summary>The tokens of each request.</summary>
    /// <param name="requests">Prompts, at least one.</param>
    /// <param name="useCache">False computes whole sequences anew for each token.</param>
    /// <param name="cancellation">Ends it between steps.</param>
    public async Task<int[][]> GenerateAsync(
        Continuation[] requests, bool useCache = true, CancellationToken cancellation = default)
    {
        var tokens = Array.ConvertAll(requests, _ => new List<int>());
        await foreach (GeneratedToken[] step in BatchGenerator.RunAsync(this, requests, useCache, cancellation))
        {
            foreach (GeneratedToken token in step)
            {
                if (tokens[token.Sequence].Count != token.Index)
                {
                    throw new InvalidOperationException(
                        $"token {token.Index} of sequence {token.Sequence} came behind {tokens[token.Sequence].Count}");
                }

                tokens[token.Sequence].Add(token.Token);
            }
        }

        return Array.ConvertAll(tokens, list => list.ToArray());
    }

    public Task OpenAsync(int[] capacities)
    {
        foreach (ModelStage stage in model.Stages)
        {
            stage.OpenSession(Session, capacities);
        }

        return Task.CompletedTask;
    }

    public async Task<int[]> StepAsync(DecodeStep step)
    {
        Calls++;
        var result = new DecodeResult(default, []);
        foreach (ModelStage stage in model.Stages)
        {
            result = await stage.DecodeAsync(Session, step, result.Hidden);
        }

        return result.Tokens;
    }

    public Task CloseAsync() => Task.WhenAll(model.Stages.Select(stage => stage.ReleaseAsync(Session)));
}
