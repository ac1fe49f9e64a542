using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

/// <summary>Redis and PostgreSQL for the tests of clusters of processes, which run one after the other.</summary>
public sealed class TestServers : IAsyncLifetime
{
    public RedisTestServer Redis { get; } = new();

    public PostgresTestServer Postgres { get; } = new();

    public async ValueTask InitializeAsync()
    {
        await Redis.StartAsync();
        await Postgres.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Redis.DisposeAsync();
        await Postgres.DisposeAsync();
    }

    /// <summary>The connection string of a server; skips the test, with the reason, where there is none.</summary>
    public static string Connection(TestServer server)
    {
        Assert.SkipWhen(server.Unavailable is not null, server.Unavailable ?? "");
        return server.Connection;
    }

    /// <summary>A cluster of one test alone.</summary>
    public static string NewCluster() => $"test-{Guid.NewGuid():N}";
}

[CollectionDefinition(Name)]
public sealed class ProcessClusters : ICollectionFixture<TestServers>
{
    public const string Name = "clusters of processes";
}
