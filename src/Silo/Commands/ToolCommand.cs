using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Krewe.Silo.Commands;

/// <summary>A command whose help ends with examples.</summary>
/// <param name="name">What the user types.</param>
/// <param name="description">One or two sentences.</param>
/// <param name="examples">Whole command lines.</param>
internal sealed class ToolCommand(string name, string description, params string[] examples)
    : Command(name, description)
{
    /// <summary>Whole command lines.</summary>
    public IReadOnlyList<string> Examples { get; } = examples;
}

/// <summary>The usual help, then the examples of the command.</summary>
/// <param name="usual">System.CommandLine's own help.</param>
/// <param name="rootExamples">Examples of the program itself.</param>
internal sealed class HelpWithExamples(HelpAction usual, IReadOnlyList<string> rootExamples)
    : SynchronousCommandLineAction
{
    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        usual.Invoke(parseResult);
        IReadOnlyList<string> examples =
            parseResult.CommandResult.Command is ToolCommand tool ? tool.Examples : rootExamples;
        TextWriter output = parseResult.InvocationConfiguration.Output;
        output.WriteLine("Examples:");
        foreach (string example in examples)
        {
            output.WriteLine($"  {example}");
        }

        return ExitCode.Fine;
    }
}
