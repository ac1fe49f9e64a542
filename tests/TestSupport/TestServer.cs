using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Krewe.TestSupport;

/// <summary>A server program that runs for some tests, on a free port of loopback and in a folder that goes with it.</summary>
public abstract class TestServer : IAsyncDisposable
{
    private static readonly TimeSpan StartDeadline = TimeSpan.FromSeconds(30);

    private readonly List<string> _log = [];
    private Process? _process;

    /// <summary>Why there is no server: a missing program; null where there is one. Tests are skipped with it.</summary>
    public string? Unavailable { get; private set; }

    /// <summary>Port that it listens on.</summary>
    public int Port { get; private set; }

    /// <summary>Connection string for krewe.</summary>
    public abstract string Connection { get; }

    /// <summary>Its files.</summary>
    protected TemporaryFolder Folder { get; } = new();

    /// <summary>Starts the server, or sets <see cref="Unavailable"/>.</summary>
    public async Task StartAsync()
    {
        Port = FreePort();
        Unavailable = await PrepareAsync();
        if (Unavailable is not null)
        {
            return;
        }

        _process = Process.Start(new ProcessStartInfo(Command[0], Command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Folder.Path,
        })!;
        _process.OutputDataReceived += Keep;
        _process.ErrorDataReceived += Keep;
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        using var deadline = new CancellationTokenSource(StartDeadline);
        while (!await IsReadyAsync())
        {
            if (_process.HasExited || deadline.IsCancellationRequested)
            {
                throw new InvalidOperationException($"{Command[0]} did not start: {Log()}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(50));
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            _process.Kill(entireProcessTree: true);
            await _process.WaitForExitAsync();
            _process.Dispose();
        }

        Folder.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>The command that runs the server in the foreground.</summary>
    protected abstract string[] Command { get; }

    /// <summary>Makes its files; returns why it cannot run here, or null.</summary>
    protected abstract Task<string?> PrepareAsync();

    /// <summary>True once it serves.</summary>
    protected abstract Task<bool> IsReadyAsync();

    /// <summary>Path of a program, or null where it is not installed.</summary>
    protected static string? Find(string program, params string[] folders) => folders
        .Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator))
        .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);

    /// <summary>Runs a program to its end.</summary>
    protected static async Task RunAsync(params string[] command)
    {
        using Process process = Process.Start(new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{string.Join(' ', command)} ended with {process.ExitCode}: {error}{await output}");
        }
    }

    private void Keep(object sender, DataReceivedEventArgs line)
    {
        lock (_log)
        {
            _log.Add(line.Data ?? "");
        }
    }

    private string Log()
    {
        lock (_log)
        {
            return string.Join(Environment.NewLine, _log);
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
