using System.Runtime.CompilerServices;
using Krewe.Grains.Interfaces.Serving;
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
    /// <param name="request">Prompt and how to go on.</param>
    /// <param name="cancellation">Ends between two tokens.</param>
    public static async IAsyncEnumerable<int> RunAsync(
        LocalModel model, GenerationRequest request, [EnumeratorCancellation] CancellationToken cancellation)
    {
        int capacity = request.Prompt.Length + request.MaxTokens;
        var sequence = new List<int>(capacity);
        sequence.AddRange(request.Prompt);
        int[] pending = request.Prompt;
        Open(model, capacity);
        for (int index = 0; index < request.MaxTokens; index++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (!request.UseCache && index > 0)
            {
                Open(model, capacity);
                pending = [.. sequence];
            }

            var result = new DecodeResult(default, -1);
            foreach (ModelStage stage in model.Stages)
            {
                result = await stage.DecodeAsync(Session, pending, result.Hidden, request.Sampling);
            }

            int token = result.Token;
            sequence.Add(token);
            pending = [token];
            yield return token;
            if (request.StopTokens.Contains(token))
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
