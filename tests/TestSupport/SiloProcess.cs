using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;

namespace Krewe.TestSupport;

/// <summary>
/// A <c>krewe silo</c> of its own process, for tests that kill, stop or drain one. Needs <c>krewe.dll</c> beside the
/// tests, which a reference to the Silo project puts there.
/// </summary>
public sealed partial class SiloProcess : IAsyncDisposable
{
    private static readonly TimeSpan StartDeadline = TimeSpan.FromSeconds(60);

    private readonly ConcurrentQueue<string> _errors = new();
    private readonly Task _reading;
    private readonly TaskCompletionSource<JsonNode> _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<JsonNode> _left = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private SiloProcess(Process process)
    {
        Process = process;
        _reading = Task.WhenAll(ReadOutputAsync(), ReadErrorsAsync());
    }

    /// <summary>The process.</summary>
    public Process Process { get; }

    /// <summary>The JSON line that said that the silo is ready.</summary>
    public JsonNode Ready => _ready.Task.Result;

    /// <summary>The JSON line that said that the silo has left; waits for it.</summary>
    public Task<JsonNode> Left => _left.Task;

    /// <summary>Name of the silo.</summary>
    public string Name => (string)Ready["name"]!;

    /// <summary>Silo endpoint, HOST:PORT.</summary>
    public string Address => (string)Ready["address"]!;

    /// <summary>Gateway endpoint, HOST:PORT.</summary>
    public string Gateway => (string)Ready["gateway"]!;

    /// <summary>Lines of the standard error so far; all of them once the process has ended.</summary>
    public string[] Errors => [.. _errors];

    /// <summary>Starts <c>krewe silo --json</c> with further arguments and waits until it is ready.</summary>
    public static Task<SiloProcess> StartAsync(params string[] args) => StartAsync(fault: null, args);

    /// <summary>As the other overload, for a silo that shall kill itself at a moment (see <c>FaultPoints</c>).</summary>
    public static async Task<SiloProcess> StartAsync(string? fault, string[] args)
    {
        SiloProcess silo = Launch(fault, args);
        try
        {
            Task ended = silo.Process.WaitForExitAsync();
            if (await Task.WhenAny(silo._ready.Task, ended).WaitAsync(StartDeadline) == ended)
            {
                await silo._reading;
                throw new InvalidOperationException(
                    $"the silo ended with code {silo.Process.ExitCode}: {string.Join(Environment.NewLine, silo.Errors)}");
            }

            return silo;
        }
        catch
        {
            await silo.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts it and does not wait: for silos that shall fail.</summary>
    public static SiloProcess Launch(params string[] args) => Launch(fault: null, args);

    private static SiloProcess Launch(string? fault, string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "krewe.dll");
        return new(Process.Start(new ProcessStartInfo("dotnet", ["exec", program, "silo", "--json", .. args])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            // Nothing of the caller's directory shall be taken for settings.
            WorkingDirectory = Path.GetTempPath(),
            Environment = { ["KREWE_FAULT"] = fault ?? "" },
        })!);
    }

    /// <summary>SIGKILL: the silo dies as with its machine.</summary>
    public void Kill() => Process.Kill();

    /// <summary>SIGSTOP: it hangs, its connections stay open.</summary>
    public void Stop() => Signal(19);

    /// <summary>SIGCONT: it goes on.</summary>
    public void Continue() => Signal(18);

    /// <summary>SIGTERM: it shall leave.</summary>
    public void Terminate() => Signal(15);

    /// <summary>Sends a signal by number, as Linux counts them.</summary>
    public void Signal(int signal)
    {
        if (SendSignal(Process.Id, signal) != 0)
        {
            throw new InvalidOperationException($"signal {signal} did not reach process {Process.Id}");
        }
    }

    /// <summary>Waits for the process to end, then for the last line of its output; returns its exit code.</summary>
    public async Task<int> WaitForExitAsync(TimeSpan deadline)
    {
        await Process.WaitForExitAsync().WaitAsync(deadline);
        await _reading;
        return Process.ExitCode;
    }

    /// <summary>Kills the silo if it still runs.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!Process.HasExited)
        {
            Process.Kill();
            await Process.WaitForExitAsync();
        }

        await _reading;
        Process.Dispose();
    }

    private async Task ReadOutputAsync()
    {
        while (await Process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (JsonNode.Parse(line) is { } node)
            {
                ((string?)node["event"] == "ready" ? _ready : _left).TrySetResult(node);
            }
        }

        _ready.TrySetCanceled();
        _left.TrySetCanceled();
    }

    private async Task ReadErrorsAsync()
    {
        while (await Process.StandardError.ReadLineAsync() is { } line)
        {
            _errors.Enqueue(line);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int SendSignal(int process, int signal);
}
