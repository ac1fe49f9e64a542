using System.Net;
using Krewe.Model;
using Microsoft.Extensions.Hosting;
using StackExchange.Redis;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>A hash on a Redis server.</summary>
internal sealed class RedisMembership : IMembership
{
    private const int ConnectMilliseconds = 3000;

    private readonly ConfigurationOptions _options;

    /// <summary>Reads the connection string.</summary>
    /// <exception cref="KreweException">It is none.</exception>
    public RedisMembership(ClusterSettings settings)
    {
        try
        {
            _options = ConfigurationOptions.Parse(settings.Connection!);
        }
        catch (ArgumentException)
        {
            // The message of the exception quotes the string, which may hold a password.
            throw Unreadable();
        }

        if (_options.EndPoints.Count == 0)
        {
            throw Unreadable();
        }
    }

    /// <inheritdoc/>
    public string Place => $"Redis at {string.Join(", ", _options.EndPoints.Select(Format))}";

    /// <inheritdoc/>
    public async Task PrepareAsync(CancellationToken cancellation)
    {
        ConfigurationOptions probe = _options.Clone();
        probe.AbortOnConnectFail = true;
        probe.ConnectTimeout = ConnectMilliseconds;
        probe.ConnectRetry = 1;
        try
        {
            await using ConnectionMultiplexer server = await ConnectionMultiplexer.ConnectAsync(probe).WaitAsync(cancellation);
            await server.GetDatabase().PingAsync().WaitAsync(cancellation);
        }
        catch (Exception exception) when (exception is RedisException or TimeoutException)
        {
            // What the server or the library say may quote the connection string.
            bool refused = exception is RedisConnectionException { FailureType: ConnectionFailureType.AuthenticationFailure }
                or RedisServerException;
            throw new KreweException(
                refused
                    ? $"{Place} refuses the connection: mend user and password of the connection string"
                    : $"{Place} does not answer: start it, or mend --connection",
                exception);
        }
    }

    /// <inheritdoc/>
    public (int Silo, int Gateway) PortsOf(ClusterSettings settings) => IMembership.FreePortsOf(settings);

    /// <inheritdoc/>
    public void Use(ISiloBuilder silo, IPEndPoint self) =>
        silo.UseRedisClustering(options => options.ConfigurationOptions = _options);

    /// <inheritdoc/>
    public void Use(IClientBuilder client) =>
        client.UseRedisClustering(options => options.ConfigurationOptions = _options);

    private static string Format(EndPoint endpoint) =>
        endpoint is DnsEndPoint dns ? $"{dns.Host}:{dns.Port}" : endpoint.ToString()!;

    private static KreweException Unreadable() => new(
        "the connection string cannot be read by Redis: HOST:PORT is wanted, perhaps with ',password=...'");
}
