using System.Net.Sockets;

namespace Krewe.Grains.Devices.Channel;

/// <summary>The file of a Unix-domain socket: its folder, its rights, and what dead processes left behind.</summary>
internal static class UnixSocketFile
{
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerFolder = OwnerFile | UnixFileMode.UserExecute;

    /// <summary>The size of <c>sun_path</c>, less its terminating zero.</summary>
    private const int MaxPathBytes = 107;

    /// <summary>Younger files may belong to a process that binds but does not listen yet.</summary>
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(10);

    /// <summary>A folder of this user under the runtime or temporary directory.</summary>
    public static string DefaultFolder
    {
        get
        {
            string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
            return string.IsNullOrEmpty(runtime) || !Directory.Exists(runtime)
                ? Path.Combine(Path.GetTempPath(), $"krewe-{Environment.UserName}")
                : Path.Combine(runtime, "krewe");
        }
    }

    /// <summary>Binds and listens on a fresh socket, mode 0600, in a folder that only this user may enter.</summary>
    /// <exception cref="ChannelException">The folder belongs to another user, or the path is too long.</exception>
    public static (Socket Socket, string Path) Listen(string folder, Guid incarnation)
    {
        string path = Path.Combine(Path.GetFullPath(folder), $"{incarnation:N}.sock");
        if (System.Text.Encoding.UTF8.GetByteCount(path) > MaxPathBytes)
        {
            throw new ChannelException($"the path of a Unix-domain socket has at most {MaxPathBytes} bytes: {path}");
        }

        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            PrepareFolder(folder);
            File.Delete(path);
            socket.Bind(new UnixDomainSocketEndPoint(path));
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, OwnerFile);
            }

            socket.Listen();
            return (socket, path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or SocketException)
        {
            socket.Dispose();
            throw new ChannelException(
                $"cannot listen on the Unix-domain socket {path}: {exception.Message}", exception);
        }
    }

    private static void PrepareFolder(string folder)
    {
        Directory.CreateDirectory(folder);
        if (!OperatingSystem.IsWindows())
        {
            // Fails in a folder of another user, whatever its mode: nobody can lure us into theirs.
            File.SetUnixFileMode(folder, OwnerFolder);
        }

        foreach (string file in Directory.EnumerateFiles(folder, "*.sock"))
        {
            if (DateTime.UtcNow - File.GetLastWriteTimeUtc(file) > Settled && IsDead(file))
            {
                File.Delete(file);
            }
        }
    }

    /// <summary>True where no process listens: the kernel answers at once, on this machine.</summary>
    private static bool IsDead(string path)
    {
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        probe.Blocking = false;
        try
        {
            probe.Connect(new UnixDomainSocketEndPoint(path));
            return false;
        }
        catch (SocketException exception)
        {
            return exception.SocketErrorCode == SocketError.ConnectionRefused;
        }
    }
}
