using System.Text;
using Spectre.Console;

namespace Krewe.Silo.Commands;

/// <summary>Where a command reads and writes; tests give it strings instead of the process's streams.</summary>
internal sealed class Terminal
{
    /// <summary>Columns of tables that go to a file or another program.</summary>
    private const int RedirectedWidth = 160;

    private Terminal(TextReader input, TextWriter output, TextWriter error, bool live, bool errorLive)
    {
        In = input;
        Out = output;
        Error = error;
        IsLive = live;
        IsErrorLive = errorLive;
        Console = AnsiConsole.Create(new()
        {
            Out = new AnsiConsoleOutput(output),
            Ansi = live ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = live ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = live ? InteractionSupport.Detect : InteractionSupport.No,
        });
        if (!live)
        {
            Console.Profile.Width = RedirectedWidth;
        }
    }

    /// <summary>Standard input, UTF-8.</summary>
    public TextReader In { get; }

    /// <summary>Standard output: results alone.</summary>
    public TextWriter Out { get; }

    /// <summary>Standard error: faults, notices and progress.</summary>
    public TextWriter Error { get; }

    /// <summary>A person looks at the standard output.</summary>
    public bool IsLive { get; }

    /// <summary>A person looks at the standard error.</summary>
    public bool IsErrorLive { get; }

    /// <summary>
    /// Tables and progress bars on <see cref="Out"/>; without colours or cursor movement unless live.
    /// </summary>
    public IAnsiConsole Console { get; }

    /// <summary>The streams of the process, UTF-8 whatever the locale says.</summary>
    public static Terminal OfProcess()
    {
        var utf8 = new UTF8Encoding(false);
        var input = new StreamReader(
            System.Console.OpenStandardInput(), new UTF8Encoding(false, throwOnInvalidBytes: true),
            detectEncodingFromByteOrderMarks: false);
        bool live = !System.Console.IsOutputRedirected;
        if (live)
        {
            System.Console.OutputEncoding = utf8;
        }

        // Spectre sees a terminal only behind the console's own writer.
        TextWriter output = live
            ? System.Console.Out
            : new StreamWriter(System.Console.OpenStandardOutput(), utf8) { AutoFlush = true };
        return new(input, output, System.Console.Error, live, !System.Console.IsErrorRedirected);
    }

    /// <summary>Strings instead of streams.</summary>
    public static Terminal Of(TextReader input, TextWriter output, TextWriter error) =>
        new(input, output, error, live: false, errorLive: false);

    /// <summary>A line on the standard error that the user should see.</summary>
    public void Notice(string text) => Error.WriteLine($"krewe: {Faults.OneLine(text)}");
}
