using System.Globalization;

namespace Krewe.TestSupport;

/// <summary>
/// A PostgreSQL server with an empty database and a user without password. The server refuses to run as root: there it
/// runs as the user that its package makes.
/// </summary>
public sealed class PostgresTestServer : TestServer
{
    private const string User = "postgres";

    private string _programs = "";

    /// <inheritdoc/>
    public override string Connection => $"Host=127.0.0.1;Port={Port};Database={User};Username={User}";

    /// <inheritdoc/>
    protected override string[] Command =>
    [
        .. AsUser(), Path.Combine(_programs, "postgres"), "-D", Folder["data"], "-p", $"{Port}", "-c", "listen_addresses=127.0.0.1",
        "-c", "unix_socket_directories=", "-c", "fsync=off",
    ];

    /// <inheritdoc/>
    protected override async Task<string?> PrepareAsync()
    {
        string? initdb = Find("initdb", Versions());
        if (initdb is null)
        {
            return "PostgreSQL is not installed (Debian: apt-get install postgresql)";
        }

        _programs = Path.GetDirectoryName(initdb)!;
        if (Environment.IsPrivilegedProcess)
        {
            if (Find("setpriv") is null || !File.ReadLines("/etc/passwd").Any(line => line.StartsWith($"{User}:", StringComparison.Ordinal)))
            {
                return $"PostgreSQL does not run as root, and there is no user {User} or no setpriv to run it as";
            }

            await RunAsync("chown", User, Folder.Path);
        }

        await RunAsync(
            [.. AsUser(), initdb, "-D", Folder["data"], "-U", User, "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"]);
        return null;
    }

    /// <inheritdoc/>
    protected override Task<bool> IsReadyAsync()
    {
        // The last line of the file says "ready" as soon as connections are taken.
        string file = Folder["data/postmaster.pid"];
        return Task.FromResult(File.Exists(file) && File.ReadLines(file).LastOrDefault()?.Trim() == "ready");
    }

    /// <summary>Folders of Debian's packages, newest first.</summary>
    private static string[] Versions()
    {
        const string folder = "/usr/lib/postgresql";
        return !Directory.Exists(folder) ? [] :
        [
            .. Directory.EnumerateDirectories(folder)
                .OrderByDescending(path => int.TryParse(Path.GetFileName(path), CultureInfo.InvariantCulture, out int version) ? version : 0)
                .Select(path => Path.Combine(path, "bin")),
        ];
    }

    private static string[] AsUser() => Environment.IsPrivilegedProcess
        ? ["setpriv", $"--reuid={User}", $"--regid={User}", "--init-groups"]
        : [];
}
