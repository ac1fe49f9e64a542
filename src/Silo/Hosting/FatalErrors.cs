using Orleans.Runtime;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Ends the process where Orleans says that its silo cannot go on, with one line and exit code 1. Orleans' own handler
/// prints a trace, waits and aborts with a core dump.
/// </summary>
/// <param name="silo">Name of the silo.</param>
/// <param name="cluster">Name of its cluster.</param>
/// <param name="end">Gets the line, and ends the process.</param>
internal sealed class FatalErrors(string silo, string cluster, Action<string> end) : IFatalErrorHandler
{
    /// <summary>What Orleans says to a silo that the others have declared dead.</summary>
    private const string ToldDead = "told I am dead";

    private int _ended;

    /// <inheritdoc/>
    public bool IsUnexpected(Exception exception) => exception is not OperationCanceledException;

    /// <inheritdoc/>
    public void OnFatalException(object? sender = null, string? context = null, Exception? exception = null)
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
        {
            end(Describe(context, exception));
        }
    }

    private string Describe(string? context, Exception? exception)
    {
        if (context?.Contains(ToldDead, StringComparison.Ordinal) == true)
        {
            return $"the other silos of cluster '{cluster}' declared silo '{silo}' dead: it did not answer for seconds (stopped, " +
                "out of memory, cut off?); it ends here, start it again to join anew";
        }

        string why = exception?.GetBaseException().Message ?? context ?? "no reason is known";
        return $"silo '{silo}' of cluster '{cluster}' cannot go on: {why}";
    }
}
