using Krewe.Model;
using Krewe.Model.Tensors;

namespace Krewe.Silo.Commands;

/// <summary>Exit codes of the program.</summary>
internal static class ExitCode
{
    /// <summary>All is well.</summary>
    public const int Fine = 0;

    /// <summary>A check or a run failed.</summary>
    public const int Failed = 1;

    /// <summary>Bad input or usage: the user can mend it.</summary>
    public const int BadInput = 2;
}

/// <summary>Turns exceptions into one line and an exit code.</summary>
internal static class Faults
{
    /// <summary>Reports <paramref name="exception"/> on the standard error.</summary>
    /// <param name="exception">What ended the command.</param>
    /// <param name="terminal">Where to report.</param>
    /// <param name="verbose">Adds the trace.</param>
    /// <param name="interrupted">The user asked for the end.</param>
    public static int Report(Exception exception, Terminal terminal, bool verbose, bool interrupted)
    {
        (string message, int code) = Describe(exception);
        if (interrupted && code == ExitCode.Failed)
        {
            // Whatever broke did so because it was told to end: a cluster that starts complains in its own way.
            terminal.Error.WriteLine("krewe: interrupted");
            return code;
        }

        string hint = code == ExitCode.Failed && !verbose ? " (--verbose shows the trace)" : "";
        Write(message, hint, terminal);
        if (verbose)
        {
            terminal.Error.WriteLine(exception);
        }

        return code;
    }

    /// <summary>
    /// The message for the user and the exit code: a fault that the user can mend is looked for among all inner
    /// exceptions, since tasks and grain calls wrap what they carry.
    /// </summary>
    public static (string Message, int Code) Describe(Exception exception)
    {
        Exception[] all = [.. Flatten(exception)];
        if (all.OfType<DeviceLostException>().FirstOrDefault() is { } lost)
        {
            return ($"{lost.Message}; start again ('krewe devices' shows whether it answers)", ExitCode.Failed);
        }

        Exception? mendable = all.FirstOrDefault(e => e is KreweException)
            ?? all.FirstOrDefault(e => e is UnauthorizedAccessException or FileNotFoundException
                or DirectoryNotFoundException);
        return mendable is not null
            ? (mendable.Message, HasLinesBeneath(mendable.Message) ? ExitCode.Failed : ExitCode.BadInput)
            : ($"{all[^1].GetType().Name}: {all[^1].Message}", ExitCode.Failed);
    }

    /// <summary>Writes a message in one line, and as they are the lines that belong beneath it.</summary>
    /// <param name="message">Of an exception.</param>
    /// <param name="hint">What to add to the line.</param>
    /// <param name="terminal">Where.</param>
    public static void Write(string message, string hint, Terminal terminal)
    {
        int end = HasLinesBeneath(message) ? message.IndexOf('\n', StringComparison.Ordinal) : message.Length;
        terminal.Error.WriteLine($"krewe: {OneLine(message[..end])}{hint}");
        if (end < message.Length)
        {
            terminal.Error.WriteLine(message[(end + 1)..]);
        }
    }

    /// <summary>Whether the first line of a message announces others, such as a compiler's log.</summary>
    public static bool HasLinesBeneath(string message) => message.Contains(":\n", StringComparison.Ordinal)
        && message.IndexOf(":\n", StringComparison.Ordinal) + 1 == message.IndexOf('\n', StringComparison.Ordinal);

    /// <summary>The text without line breaks or runs of blanks.</summary>
    public static string OneLine(string text) => string.Join(
        ' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));

    /// <summary>The exception and what it wraps, outermost first.</summary>
    private static IEnumerable<Exception> Flatten(Exception exception)
    {
        yield return exception;
        IEnumerable<Exception> inner = exception is AggregateException aggregate
            ? aggregate.InnerExceptions
            : exception.InnerException is { } one ? [one] : [];
        foreach (Exception found in inner.SelectMany(Flatten))
        {
            yield return found;
        }
    }
}
