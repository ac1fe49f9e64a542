using System.Text.RegularExpressions;
using Krewe.Model;

namespace Krewe.Gpu.Compilation;

/// <summary>
/// A kernel does not compile. The message has the first error, and beneath it the compiler's log, with the source lines that it
/// names.
/// </summary>
public sealed partial class KernelCompilationException : KreweException
{
    /// <summary>The faults of a source.</summary>
    /// <param name="source">What was compiled.</param>
    /// <param name="architecture">For which device.</param>
    /// <param name="log">What the compiler said.</param>
    public KernelCompilationException(KernelSource source, string architecture, string log)
        : base($"kernel source {source.Name} does not compile for {architecture}: {FirstError(log)}:\n{WithSourceLines(source, log)}")
    {
        Log = log;
    }

    /// <summary>What the compiler said.</summary>
    public string Log { get; }

    private static string FirstError(string log)
    {
        string[] lines = log.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return lines.FirstOrDefault(line => line.Contains("error", StringComparison.OrdinalIgnoreCase))
            ?? lines.FirstOrDefault() ?? "the compiler says nothing";
    }

    /// <summary>The log, behind each place that it names the source line that stands there.</summary>
    private static string WithSourceLines(KernelSource source, string log)
    {
        var lines = new List<string>();
        foreach (string line in log.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            lines.Add(line.TrimEnd());
            Match place = Place().Match(line);
            if (place.Success
                && SourceLine(source, place.Groups[1].Value, int.Parse(place.Groups[2].Value)) is { } text)
            {
                lines.Add($"{place.Groups[2].Value,6} | {text}");
            }
        }

        return string.Join('\n', lines);
    }

    private static string? SourceLine(KernelSource source, string file, int number)
    {
        string? text = file == source.Name ? source.Text : source.Headers.GetValueOrDefault(file);
        return text?.Split('\n').ElementAtOrDefault(number - 1)?.TrimEnd();
    }

    /// <summary>Such as <c>Attention.cu(12): error: identifier "x" is undefined</c>.</summary>
    [GeneratedRegex(@"^([^\s(]+)\((\d+)\)")]
    private static partial Regex Place();
}
