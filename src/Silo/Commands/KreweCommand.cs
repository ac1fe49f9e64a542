using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Krewe.Silo.Commands;

/// <summary>The program's command line: parses, runs, reports faults in one line, returns the exit code.</summary>
internal static class KreweCommand
{
    private static readonly string[] _examples =
    [
        "krewe train                                          trains the default model on two silos, two minutes",
        "krewe generate runs/default/step-001200 --prompt \"Gets or sets\"",
        "krewe eval MODEL --texts held_out.json",
        "krewe devices",
    ];

    /// <summary>Runs one command line.</summary>
    /// <param name="args">As the shell gave them.</param>
    /// <param name="terminal">Streams.</param>
    /// <param name="cancellation">Cancelled when the user asks for the end.</param>
    public static async Task<int> RunAsync(string[] args, Terminal terminal, CancellationToken cancellation)
    {
        Option<bool> verbose = Verbose();
        RootCommand root = Create(terminal, verbose);
        // Response files are off: a prompt may begin with '@'.
        ParseResult parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Action is ParseErrorAction)
        {
            terminal.Error.WriteLine($"krewe: {UsageFault.Describe(parsed)}");
            return ExitCode.BadInput;
        }

        try
        {
            return await parsed.InvokeAsync(
                new()
                {
                    Output = terminal.Out,
                    Error = terminal.Error,
                    EnableDefaultExceptionHandler = false,
                    ProcessTerminationTimeout = null,
                },
                cancellation);
        }
#pragma warning disable CA1031 // The end of the line for every fault: the user gets a sentence, not a trace.
        catch (Exception exception)
        {
            return Faults.Report(exception, terminal, parsed.GetValue(verbose), cancellation.IsCancellationRequested);
        }
#pragma warning restore CA1031
    }

    /// <summary>The option that every command has.</summary>
    internal static Option<bool> Verbose() =>
        new("--verbose") { Description = "Logs, and traces of faults", Recursive = true };

    /// <summary>The command tree.</summary>
    internal static RootCommand Create(Terminal terminal, Option<bool> verbose)
    {
        var root = new RootCommand(
            "Trains and serves DeepSeek-V3-style mixture-of-experts models on an Orleans cluster; every expert is a " +
            "grain. Exit code 0: fine, 1: a check or run failed, 2: bad input.")
        {
            verbose,
            Train.TrainCommand.Create(terminal),
            GenerateCommand.Create(terminal),
            EvalCommand.Create(terminal),
            CheckCommand.Create(terminal),
            TokenizeCommand.Create(terminal),
            ScheduleCommand.Create(terminal),
            DevicesCommand.Create(terminal),
            Cluster.SiloCommand.Create(terminal),
            Cluster.StatusCommand.Create(terminal),
            Cluster.DrainCommand.Create(terminal),
        };
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        var action = new HelpWithExamples((HelpAction)help.Action!, _examples);
        help.Action = action;
        root.SetAction(action.Invoke);
        return root;
    }
}
