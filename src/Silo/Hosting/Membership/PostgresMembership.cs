using System.Net;
using System.Net.Sockets;
using Krewe.Model;
using Npgsql;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>Tables in a PostgreSQL database, which krewe creates where they are missing.</summary>
internal sealed class PostgresMembership : IMembership
{
    private const string Provider = "Npgsql";
    private const int ConnectSeconds = 3;

    private readonly NpgsqlConnectionStringBuilder _connection;

    /// <summary>Reads the connection string.</summary>
    /// <exception cref="KreweException">It is none.</exception>
    public PostgresMembership(ClusterSettings settings)
    {
        try
        {
            _connection = new(settings.Connection);
        }
        catch (Exception exception) when (exception is ArgumentException or FormatException or InvalidCastException)
        {
            // The message of the exception may quote the string, which may hold a password.
            throw new KreweException(
                "the connection string cannot be read by PostgreSQL: 'Host=...;Port=...;Database=...;Username=...' is wanted");
        }

        if (string.IsNullOrEmpty(_connection.Host))
        {
            throw new KreweException("the connection string names no PostgreSQL server: add Host=...");
        }
    }

    /// <inheritdoc/>
    public string Place => $"PostgreSQL at {_connection.Host}:{_connection.Port}, database {_connection.Database ?? _connection.Username}";

    /// <inheritdoc/>
    public async Task PrepareAsync(CancellationToken cancellation)
    {
        // A pool of its own: the connection that creates the schema is closed, not kept.
        var probe = new NpgsqlConnectionStringBuilder(_connection.ConnectionString)
        {
            Timeout = ConnectSeconds,
            Pooling = false,
        };
        try
        {
            await using var connection = new NpgsqlConnection(probe.ConnectionString);
            await connection.OpenAsync(cancellation);
            await PostgresSchema.EnsureAsync(connection, cancellation);
        }
        catch (PostgresException exception)
        {
            throw new KreweException($"{Place} refuses: {exception.MessageText}", exception);
        }
        catch (Exception exception) when (exception is NpgsqlException or SocketException or TimeoutException)
        {
            throw new KreweException($"{Place} does not answer: start it, or mend --connection", exception);
        }
    }

    /// <inheritdoc/>
    public (int Silo, int Gateway) PortsOf(ClusterSettings settings) => IMembership.FreePortsOf(settings);

    /// <inheritdoc/>
    public void Use(ISiloBuilder silo, IPEndPoint self) => silo.UseAdoNetClustering(options =>
    {
        options.Invariant = Provider;
        options.ConnectionString = _connection.ConnectionString;
    });

    /// <inheritdoc/>
    public void Use(IClientBuilder client) => client.UseAdoNetClustering(options =>
    {
        options.Invariant = Provider;
        options.ConnectionString = _connection.ConnectionString;
    });
}
