using Krewe.Model;
using Krewe.Silo.Hosting;
using Krewe.Silo.Tests.Commands;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

/// <summary>File, environment and command line; what is refused, and that no message shows a password.</summary>
/// <remarks>Not beside the tests that start processes: those inherit the variables.</remarks>
[Collection(ProcessClusters.Name)]
public class ClusterSettingsReaderTests
{
    private const string Secret = "hunter2";

    [Fact]
    public void Later_sources_win()
    {
        using var folder = new TemporaryFolder();
        string file = folder["cluster.json"];
        File.WriteAllText(file, """
            {"Krewe": {"Cluster": "lab", "Membership": "redis", "Connection": "from-file:6379", "SiloPort": 1000, "CpuThreads": 3}}
            """);
        Environment.SetEnvironmentVariable("KREWE__SiloPort", "2000");
        Environment.SetEnvironmentVariable("KREWE__GatewayPort", "2001");
        try
        {
            ClusterSettings settings = ClusterSettingsReader.Read(
                file, new Dictionary<string, string?> { ["GatewayPort"] = "3001", ["Connection"] = null });
            Assert.Equal(
                ("lab", MembershipKind.Redis, "from-file:6379", 2000, 3001, 3),
                (settings.Cluster, settings.Membership, settings.Connection, settings.SiloPort, settings.GatewayPort,
                    settings.CpuThreads));
        }
        finally
        {
            Environment.SetEnvironmentVariable("KREWE__SiloPort", null);
            Environment.SetEnvironmentVariable("KREWE__GatewayPort", null);
        }
    }

    [Fact]
    public void A_setting_that_does_not_exist_is_named()
    {
        using var folder = new TemporaryFolder();
        string file = folder["cluster.json"];
        File.WriteAllText(file, """{"Krewe": {"Cluster": "lab", "Memberhip": "redis"}}""");
        var fault = Assert.Throws<KreweException>(() => ClusterSettingsReader.Read(file, new Dictionary<string, string?>()));
        Assert.Contains("Krewe:Memberhip is no setting", fault.Message, StringComparison.Ordinal);
        File.WriteAllText(file, "{");
        fault = Assert.Throws<KreweException>(() => ClusterSettingsReader.Read(file, new Dictionary<string, string?>()));
        Assert.Contains("cannot be read as JSON", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Names_without_a_name_differ()
    {
        var settings = new ClusterSettings { Cluster = "lab" };
        Assert.NotEqual(settings.NameOrUnique(), settings.NameOrUnique());
    }

    [Theory]
    [InlineData("no cluster is named", "silo")]
    [InlineData("no cluster is named", "status")]
    [InlineData("membership 'etcd' is unknown: use localhost, postgres, redis", "silo", "--cluster", "x", "--membership", "etcd")]
    [InlineData("membership redis needs a connection string", "silo", "--cluster", "x", "--membership", "redis")]
    [InlineData("membership postgres needs a connection string", "train", "--cluster", "x", "--membership", "postgres")]
    [InlineData("'a/b' cannot name a silo", "silo", "--cluster", "x", "--name", "a/b")]
    [InlineData("'x@y' cannot name a cluster", "silo", "--cluster", "x@y")]
    [InlineData("Krewe:SiloPort is '70000'", "silo", "--cluster", "x", "--silo-port", "70000")]
    [InlineData("HOST:PORT is wanted", "silo", "--cluster", "x", "--join", "here")]
    [InlineData("neither an address nor a known host", "silo", "--cluster", "x", "--advertise", "no.such.host.invalid")]
    [InlineData("no silo answers at 127.0.0.1:1", "silo", "--cluster", "x", "--join", "127.0.0.1:1")]
    [InlineData("no such settings file", "status", "--settings", "nowhere.json")]
    [InlineData("--join is for membership localhost",
        "silo", "--cluster", "x", "--membership", "redis", "--connection", "127.0.0.1:1", "--join", "127.0.0.1:1")]
    [InlineData("Redis at 127.0.0.1:1 does not answer",
        "silo", "--cluster", "x", "--membership", "redis", "--connection", "127.0.0.1:1,password=" + Secret)]
    [InlineData("PostgreSQL at 127.0.0.1:1, database d does not answer",
        "status", "--cluster", "x", "--membership", "postgres", "--connection",
        "Host=127.0.0.1;Port=1;Database=d;Username=u;Password=" + Secret)]
    [InlineData("cannot be read by PostgreSQL",
        "status", "--cluster", "x", "--membership", "postgres", "--connection", "password " + Secret)]
    [InlineData("cannot be read by Redis",
        "status", "--cluster", "x", "--membership", "redis", "--connection", "nonsense=" + Secret)]
    public async Task What_cannot_be_used_is_refused_in_one_line(string says, params string[] args)
    {
        Outcome outcome = await KreweProgram.RunAsync(args, cancellation: TestContext.Current.CancellationToken);

        Assert.Equal(2, outcome.Code);
        string line = Assert.Single(outcome.ErrorLines);
        Assert.Contains(says, line, StringComparison.Ordinal);
        Assert.DoesNotContain(Secret, line, StringComparison.Ordinal);
        Assert.Empty(outcome.Out);
    }
}
