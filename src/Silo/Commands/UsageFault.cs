using System.CommandLine;

namespace Krewe.Silo.Commands;

/// <summary>One line for a command line that cannot be parsed.</summary>
internal static class UsageFault
{
    private const string Unrecognized = "Unrecognized command or argument";

    /// <summary>What is wrong, the nearest known option, and where to read on.</summary>
    public static string Describe(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        string path = command is RootCommand ? "krewe" : $"krewe {command.Name}";
        // An unknown word often causes further errors; it is the one to mend.
        string[] messages = [.. parsed.Errors.Select(error => error.Message)];
        string message = messages.FirstOrDefault(m => m.StartsWith(Unrecognized, StringComparison.Ordinal))
            ?? messages[0];
        string word = parsed.UnmatchedTokens.Count > 0 ? parsed.UnmatchedTokens[0] : "";
        string text = message.StartsWith(Unrecognized, StringComparison.Ordinal)
            ? $"unknown {Kind(command, word)} '{word}'{Suggestion(parsed, word)}"
            : Plain(message);
        return $"{Faults.OneLine(text)}; see '{path} --help'";
    }

    private static string Kind(Command command, string word) =>
        word.StartsWith('-') ? "option" : command.Subcommands.Count > 0 ? "command" : "argument";

    private static string Suggestion(ParseResult parsed, string word)
    {
        Command command = parsed.CommandResult.Command;
        string? nearest = command.Options.Concat(parsed.RootCommandResult.Command.Options).Select(o => o.Name)
            .Concat(command.Subcommands.Select(c => c.Name))
            .Select(name => (Name: name, Distance: Distance(name, word)))
            .Where(pair => pair.Distance <= Math.Max(2, word.Length / 4))
            .OrderBy(pair => pair.Distance).Select(pair => pair.Name).FirstOrDefault();
        return nearest is null ? "" : $": did you mean {nearest}?";
    }

    /// <summary>System.CommandLine's messages in this program's words.</summary>
    private static string Plain(string message) => message
        .Replace(" as expected type 'System.Int32'", ": a whole number is wanted", StringComparison.Ordinal)
        .Replace(" as expected type 'System.Int64'", ": a whole number is wanted", StringComparison.Ordinal)
        .Replace(" as expected type 'System.UInt64'", ": a whole number is wanted", StringComparison.Ordinal)
        .Replace(" as expected type 'System.Double'", ": a number is wanted", StringComparison.Ordinal)
        .Replace(" as expected type 'System.Single'", ": a number is wanted", StringComparison.Ordinal)
        .TrimEnd('.');

    /// <summary>Levenshtein's distance.</summary>
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, 1 + Math.Min(row[j], row[j - 1]));
            }
        }

        return row[b.Length];
    }
}
