using System.Runtime.CompilerServices;
using Krewe.Grains.Interfaces.Serving;
using Orleans.Concurrency;

namespace Krewe.Grains.Serving;

/// <inheritdoc cref="IGenerationGrain"/>
[GrainType("krewe.generation"), Reentrant, KeepAlive]
public sealed class GenerationGrain : Grain, IGenerationGrain
{
    /// <summary>Sessions are numbered from here, so that they never meet the slots of a training step.</summary>
    private const long FirstSession = 1L << 32;

    private long _sessions = FirstSession;

    /// <inheritdoc/>
    public async IAsyncEnumerable<TokenUpdate> GenerateAsync(
        GenerationRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (request.Prompt.Length == 0)
        {
            throw new Model.KreweException("the prompt is empty: give at least one token");
        }

        IPipelineStageGrain first = GrainFactory.GetGrain<IPipelineStageGrain>(
            GrainKeys.Stage(this.GetPrimaryKeyString(), 0));
        long session = _sessions++;
        int capacity = checked(request.Prompt.Length + request.MaxTokens);
        var tokens = new List<int>(request.Prompt);
        int[] next = request.Prompt;
        try
        {
            await first.OpenSessionAsync(session, capacity);
            for (int index = 0; index < request.MaxTokens; index++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (!request.UseCache && index > 0)
                {
                    await first.OpenSessionAsync(session, capacity);
                    next = [.. tokens];
                }

                int token = await first.DecodeAsync(session, next, TensorParcel.Empty, request.Sampling);
                tokens.Add(token);
                next = [token];
                bool stop = request.StopTokens.Contains(token);
                yield return new(token, index, stop ? "stop" : index + 1 == request.MaxTokens ? "length" : null);
                if (stop)
                {
                    break;
                }
            }
        }
        finally
        {
            await first.ReleaseAsync(session);
        }
    }
}
