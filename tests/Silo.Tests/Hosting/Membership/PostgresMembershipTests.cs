using Krewe.Silo.Hosting;
using Krewe.Silo.Hosting.Membership;
using Npgsql;
using Xunit;

namespace Krewe.Silo.Tests.Hosting.Membership;

[Collection(ProcessClusters.Name)]
public class PostgresMembershipTests(TestServers servers)
{
    [Fact]
    public async Task Many_create_the_schema_at_once()
    {
        string server = TestServers.Connection(servers.Postgres);
        await using var connection = new NpgsqlConnection(server);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using (var create = new NpgsqlCommand("CREATE DATABASE fresh", connection))
        {
            await create.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        var fresh = new NpgsqlConnectionStringBuilder(server) { Database = "fresh", Pooling = false };
        var settings = new ClusterSettings
        {
            Cluster = "x",
            Membership = MembershipKind.Postgres,
            Connection = fresh.ConnectionString,
        };
        await Task.WhenAll(Enumerable.Range(0, 12).Select(_ => Task.Run(
            () => new PostgresMembership(settings).PrepareAsync(TestContext.Current.CancellationToken))));

        await using var check = new NpgsqlConnection(fresh.ConnectionString);
        await check.OpenAsync(TestContext.Current.CancellationToken);
        await using var count = new NpgsqlCommand("SELECT count(*) FROM orleansquery", check);
        Assert.Equal(10L, await count.ExecuteScalarAsync(TestContext.Current.CancellationToken));
    }
}
