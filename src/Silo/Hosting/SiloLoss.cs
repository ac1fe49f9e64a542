using Orleans.Runtime;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Fails the calls of a client that are in flight when a silo is lost: its gateway, or any other, since a client does not
/// know where its grains live. Orleans would let them wait for an answer that may never come until their deadline, and
/// Krewe's is ten minutes. Whether such a call was carried out is unknown: the caller asks again. So it is with a call that
/// comes back as cancelled though nobody has cancelled it: a silo that looks for a grain while its directory changes hands
/// gives up so.
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

        try
        {
            await call;
        }
        catch (OperationCanceledException exception) when (!HasCancelled(context))
        {
            throw new SiloUnavailableException(
                $"the call to {context.InterfaceName}.{context.MethodName} was given up on its way, by a silo that ends or " +
                "that has lost another: whether it was carried out is unknown", exception);
        }
    }

    /// <summary>True where the caller itself has ended the call.</summary>
    private static bool HasCancelled(IOutgoingGrainCallContext context) => Enumerable
        .Range(0, context.Request.GetArgumentCount())
        .Any(i => context.Request.GetArgument(i) is CancellationToken { IsCancellationRequested: true });

    private static TaskCompletionSource<string> NewLoss() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
