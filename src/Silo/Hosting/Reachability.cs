using System.Net;
using System.Net.Sockets;

namespace Krewe.Silo.Hosting;

/// <summary>Finds out whether somebody listens at an endpoint.</summary>
internal static class Reachability
{
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(1);

    /// <summary>True where a connection was opened within a second; it is closed again at once.</summary>
    public static async Task<bool> AnswersAsync(IPEndPoint endpoint, CancellationToken cancellation)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(AnswerDeadline);
        using var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(endpoint, deadline.Token);
            return true;
        }
        catch (Exception exception) when (exception is SocketException or OperationCanceledException)
        {
            cancellation.ThrowIfCancellationRequested();
            return false;
        }
    }
}
