using Krewe.Silo.Tests.Faults;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

/// <summary>
/// Redis and PostgreSQL for the tests of clusters of processes, which run one after the other, and silos that stay.
/// </summary>
public sealed class TestServers : IAsyncLifetime
{
    private readonly Dictionary<string, StandingSilos> _standing = [];

    public RedisTestServer Redis { get; } = new();

    public PostgresTestServer Postgres { get; } = new();

    public async ValueTask InitializeAsync()
    {
        await Redis.StartAsync();
        await Postgres.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        foreach (StandingSilos silos in _standing.Values)
        {
            await silos.DisposeAsync();
        }

        await Redis.DisposeAsync();
        await Postgres.DisposeAsync();
    }

    /// <summary>The connection string of a server; skips the test, with the reason, where there is none.</summary>
    public static string Connection(TestServer server)
    {
        Assert.SkipWhen(server.Unavailable is not null, server.Unavailable ?? "");
        return server.Connection;
    }

    /// <summary>The silos with these devices that stay from test to test.</summary>
    internal StandingSilos Standing(string devices)
    {
        if (!_standing.TryGetValue(devices, out StandingSilos? silos))
        {
            _standing.Add(devices, silos = new(Connection(Redis), devices));
        }

        return silos;
    }

    /// <summary>A cluster of one test alone.</summary>
    public static string NewCluster() => $"test-{Guid.NewGuid():N}";
}

[CollectionDefinition(Name)]
public sealed class ProcessClusters : ICollectionFixture<TestServers>
{
    public const string Name = "clusters of processes";
}
