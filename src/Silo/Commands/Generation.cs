using System.Runtime.CompilerServices;
using Krewe.Model.Generation;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Silo.Commands;

/// <summary>Generates tokens with a model of this process, without a cluster.</summary>
internal static class Generation
{
    private const long Session = 0;

    /// <summary>Generates until a stop token, which is returned, or the most tokens.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">Ids, at least one.</param>
    /// <param name="maxTokens">Most tokens.</param>
    /// <param name="stop">Tokens that end the text.</param>
    /// <param name="sampling">How tokens are chosen.</param>
    /// <param name="useCache">False computes the whole sequence anew for each token.</param>
    /// <param name="cancellation">Ends between two tokens.</param>
    public static async IAsyncEnumerable<int> RunAsync(
        LocalModel model, int[] prompt, int maxTokens, IReadOnlyCollection<int> stop, SamplingOptions sampling,
        bool useCache, [EnumeratorCancellation] CancellationToken cancellation)
    {
        int capacity = prompt.Length + maxTokens;
        var sequence = new List<int>(capacity);
        sequence.AddRange(prompt);
        int[] pending = prompt;
        Open(model, capacity);
        for (int index = 0; index < maxTokens; index++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (!useCache && index > 0)
            {
                Open(model, capacity);
                pending = [.. sequence];
            }

            Tensor output = default;
            foreach (ModelStage stage in model.Stages)
            {
                output = await stage.DecodeAsync(Session, pending, output);
            }

            int token = Sampler.Sample(output.Row(0), sampling, index);
            sequence.Add(token);
            pending = [token];
            yield return token;
            if (stop.Contains(token))
            {
                break;
            }
        }

        foreach (ModelStage stage in model.Stages)
        {
            await stage.ReleaseAsync(Session);
        }
    }

    private static void Open(LocalModel model, int capacity)
    {
        foreach (ModelStage stage in model.Stages)
        {
            stage.OpenSession(Session, capacity);
        }
    }
}
