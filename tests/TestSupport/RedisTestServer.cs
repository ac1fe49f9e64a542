using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Krewe.TestSupport;

/// <summary>A Redis server in memory.</summary>
public sealed class RedisTestServer : TestServer
{
    private string _program = "";

    /// <inheritdoc/>
    public override string Connection => $"127.0.0.1:{Port}";

    /// <inheritdoc/>
    protected override string[] Command =>
    [
        _program, "--port", $"{Port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", Folder.Path,
    ];

    /// <inheritdoc/>
    protected override Task<string?> PrepareAsync()
    {
        _program = Find("redis-server") ?? "";
        return Task.FromResult(_program.Length > 0 ? null : "redis-server is not installed (Debian: apt-get install redis-server)");
    }

    /// <inheritdoc/>
    protected override async Task<bool> IsReadyAsync()
    {
        using var client = new TcpClient();
        try
        {
            await client.ConnectAsync(IPAddress.Loopback, Port);
            await client.GetStream().WriteAsync("PING\r\n"u8.ToArray());
            byte[] answer = new byte[5];
            await client.GetStream().ReadExactlyAsync(answer);
            return Encoding.ASCII.GetString(answer) == "+PONG";
        }
        catch (Exception exception) when (exception is SocketException or IOException)
        {
            return false;
        }
    }
}
