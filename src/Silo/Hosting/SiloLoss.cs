using Orleans.Runtime;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Fails the calls of a client that are in flight when a silo is lost: its gateway, or any other, since a client does not
/// know where its grains live. Orleans would let them wait for an answer that may never come until their deadline, and
/// Krewe's is ten minutes. Whether such a call was carried out is unknown: the caller asks again.
/// </summary>
internal sealed class SiloLoss : IOutgoingGrainCallFilter
{
    private TaskCompletionSource<string> _lost = NewLoss();

    /// <summary>Says that a silo is lost.</summary>
    public void Report(string silo) => Interlocked.Exchange(ref _lost, NewLoss()).SetResult(silo);

    /// <inheritdoc/>
    public async Task Invoke(IOutgoingGrainCallContext context)
    {
        Task<string> lost = Volatile.Read(ref _lost).Task;
        Task call = context.Invoke();
        if (await Task.WhenAny(call, lost) == lost && !call.IsCompleted)
        {
            throw new SiloUnavailableException(
                $"the call to {context.InterfaceName}.{context.MethodName} was in flight when {await lost} was lost: " +
                "whether it was carried out is unknown");
        }

        await call;
    }

    private static TaskCompletionSource<string> NewLoss() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
