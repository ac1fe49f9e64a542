using System.Net;
using System.Net.Sockets;

namespace Krewe.Silo.Hosting;

/// <summary>Finds ports to listen on.</summary>
internal static class FreePorts
{
    /// <summary>Ports of an address that nobody listens on at this moment.</summary>
    public static int[] Of(IPAddress address, int count)
    {
        var listeners = new List<TcpListener>();
        try
        {
            for (int i = 0; i < count; i++)
            {
                var listener = new TcpListener(address, 0);
                listener.Start();
                listeners.Add(listener);
            }

            return [.. listeners.Select(listener => ((IPEndPoint)listener.LocalEndpoint).Port)];
        }
        finally
        {
            listeners.ForEach(listener => listener.Stop());
        }
    }

    /// <summary>True where a listener could be opened just now; 0 is always free.</summary>
    public static bool IsFree(IPAddress address, int port)
    {
        try
        {
            using var listener = new TcpListener(address, port);
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
