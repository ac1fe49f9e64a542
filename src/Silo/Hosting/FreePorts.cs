using System.Net;
using System.Net.Sockets;

namespace Krewe.Silo.Hosting;

/// <summary>Finds ports to listen on.</summary>
internal static class FreePorts
{
    /// <summary>
    /// Below the ports that systems give to outgoing connections (from 32768 on Linux, from 49152 elsewhere), one of which
    /// could take a port between its choice here and the moment when a silo listens on it.
    /// </summary>
    private const int Lowest = 16384, End = ClusterSettings.PrimaryGatewayPort;

    private const int Tries = 200;

    /// <summary>Ports of an address that nobody listens on at this moment.</summary>
    /// <exception cref="SocketException">None can be had.</exception>
    public static int[] Of(IPAddress address, int count)
    {
        var listeners = new List<TcpListener>();
        try
        {
            for (int tries = 0; listeners.Count < count; tries++)
            {
                // Drawn at random, so that two processes that look at the same time find others; the system's choice where
                // so many are taken.
                var listener = new TcpListener(address, tries < Tries ? Random.Shared.Next(Lowest, End) : 0);
                try
                {
                    listener.Start();
                    listeners.Add(listener);
                }
                catch (SocketException) when (tries < Tries)
                {
                    listener.Dispose();
                }
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
