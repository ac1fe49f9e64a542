using System.Diagnostics;
using Krewe.Silo.Commands;

namespace Krewe.Silo.Tests.Commands;

/// <summary>What a command line did.</summary>
public sealed record Outcome(int Code, string Out, string Error)
{
    public string[] ErrorLines => Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}

/// <summary>Runs command lines through the program's own entry point.</summary>
public static class KreweProgram
{
    /// <summary>In this process, with strings for streams.</summary>
    public static async Task<Outcome> RunAsync(string[] args, string input = "", CancellationToken cancellation = default)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        int code = await KreweCommand.RunAsync(args, Terminal.Of(new StringReader(input), output, error), cancellation);
        return new(code, output.ToString(), error.ToString());
    }

    /// <summary>As a process of its own.</summary>
    public static async Task<Outcome> ExecuteAsync(string[] args, string input = "")
    {
        string program = Path.Combine(AppContext.BaseDirectory, "krewe.dll");
        var start = new ProcessStartInfo("dotnet", ["exec", program, .. args])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return new(process.ExitCode, await output, await error);
    }
}
