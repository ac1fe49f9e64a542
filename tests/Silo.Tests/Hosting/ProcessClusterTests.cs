using System.Diagnostics;
using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Silo.Hosting;
using Krewe.Silo.Tests.Commands;
using Krewe.TestSupport;
using Orleans.Runtime;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

/// <summary>Silos as processes: they find each other, and leave, die and hang as processes do.</summary>
[Collection(ProcessClusters.Name)]
public class ProcessClusterTests(TestServers servers)
{
    /// <summary>Detection takes one to four seconds; the rest is for a busy machine.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Four_silos_join_over_Redis_and_leave_and_die()
    {
        string[] cluster = Redis(TestServers.NewCluster());
        await using SiloProcess a = await SiloProcess.StartAsync([.. cluster, "--name", "a"]);
        await using SiloProcess b = await SiloProcess.StartAsync([.. cluster, "--name", "b"]);
        await using SiloProcess c = await SiloProcess.StartAsync([.. cluster, "--name", "c"]);
        await using SiloProcess d = await SiloProcess.StartAsync([.. cluster, "--name", "d"]);

        JsonNode[] silos = await SilosAsync(cluster);
        Assert.Equal(["a", "b", "c", "d"], silos.Select(silo => (string)silo["name"]!));
        Assert.All(silos, silo => Assert.Equal(("active", "cpu:0"), ((string)silo["state"]!, (string)silo["device"]!)));
        Assert.Equal(c.Address, (string)silos[2]["address"]!);

        Outcome twin = await KreweProgram.RunAsync(["silo", .. cluster, "--name", "b"], cancellation: Cancellation);
        Assert.Equal(2, twin.Code);
        Assert.Contains("has a silo 'b' already", Assert.Single(twin.ErrorLines), StringComparison.Ordinal);

        d.Kill();
        await UntilAsync(cluster, "a", "b", "c");
        c.Terminate();
        Assert.Equal(0, await c.WaitForExitAsync(Patience));
        Assert.Equal("c", (string)(await c.Left)["name"]!);
        Assert.Empty(c.Errors);
        await UntilAsync(cluster, "a", "b");
    }

    [Fact]
    public async Task A_silo_that_hung_and_was_declared_dead_ends_with_one_line()
    {
        string[] cluster = Redis(TestServers.NewCluster());
        await using SiloProcess stays = await SiloProcess.StartAsync([.. cluster, "--name", "stays"]);
        await using SiloProcess hangs = await SiloProcess.StartAsync([.. cluster, "--name", "hangs"]);

        hangs.Stop();
        await UntilAsync(cluster, "stays");
        hangs.Continue();

        Assert.Equal(1, await hangs.WaitForExitAsync(Patience));
        string line = Assert.Single(hangs.Errors);
        Assert.StartsWith("krewe: the other silos of cluster", line, StringComparison.Ordinal);
        Assert.Contains("declared silo 'hangs' dead", line, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_goes_on_when_the_silo_dies_that_it_talks_through()
    {
        string name = TestServers.NewCluster();
        string[] cluster = Redis(name);
        await using SiloProcess a = await SiloProcess.StartAsync([.. cluster, "--name", "a"]);
        var settings = new ClusterSettings
        {
            Cluster = name,
            Membership = MembershipKind.Redis,
            Connection = servers.Redis.Connection,
        };
        await using ClusterConnection client = await ClusterConnection.ConnectAsync(settings, cancellationToken: Cancellation);
        Assert.Equal(["a"], client.SiloNames);
        await using SiloProcess b = await SiloProcess.StartAsync([.. cluster, "--name", "b"]);

        // The client talks through a. What is in flight or comes before the change fails, nothing hangs.
        a.Kill();
        long start = Stopwatch.GetTimestamp();
        DeviceStatus? status = null;
        while (status is null && Stopwatch.GetElapsedTime(start) < Patience)
        {
            try
            {
                status = await client.Grains.GetGrain<IDeviceGrain>("b").StatusAsync().WaitAsync(Patience, Cancellation);
            }
            catch (Exception exception) when (exception is OrleansException or Orleans.Runtime.Messaging.ConnectionFailedException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), Cancellation);
            }
        }

        Assert.Equal("b", status?.Silo);
        Assert.Equal(["b"], (await client.MembersAsync()).Select(member => member.Name));

        Task<int> ended = b.WaitForExitAsync(Patience);
        while (!ended.IsCompleted)
        {
            try
            {
                await client.Grains.GetGrain<IDeviceGrain>("b").StopAsync().WaitAsync(TimeSpan.FromSeconds(1), Cancellation);
            }
            catch (Exception exception) when (
                exception is OrleansException or TimeoutException or Orleans.Runtime.Messaging.ConnectionFailedException)
            {
                // The client may hear of the death only now, which fails what is in flight; or b is on its way out.
            }

            await Task.WhenAny(ended, Task.Delay(TimeSpan.FromMilliseconds(100), Cancellation));
        }

        Assert.Equal(0, await ended);
    }

    [Fact]
    public async Task A_call_in_flight_fails_when_the_silo_of_its_grain_dies()
    {
        string name = TestServers.NewCluster();
        string port = $"{FreePorts.Of(System.Net.IPAddress.Loopback, 1)[0]}";
        await using SiloProcess a = await SiloProcess.StartAsync("--cluster", name, "--name", "a", "--silo-port", port);
        await using SiloProcess b = await SiloProcess.StartAsync("--cluster", name, "--name", "b", "--join", a.Address);
        var settings = new ClusterSettings { Cluster = name, Gateway = System.Net.IPEndPoint.Parse(a.Gateway) };
        await using ClusterConnection client = await ClusterConnection.ConnectAsync(settings, cancellationToken: Cancellation);

        // Runs that were never started have no events: watching one waits.
        ITrainingRunGrain onB;
        int run = 0;
        SiloAddress ofB = (await client.MembersAsync()).Single(member => member.Name == "b").Address;
        do
        {
            onB = client.Grains.GetGrain<ITrainingRunGrain>($"run-{run++}");
            await onB.StatusAsync();
        }
        while (!ofB.Equals(await client.Grains.GetGrain<IManagementGrain>(0).GetActivationAddress(onB)));

        IAsyncEnumerator<RunEvent> events = onB.WatchAsync(Cancellation).GetAsyncEnumerator(Cancellation);
        Task<bool> next = events.MoveNextAsync().AsTask();
        await Assert.ThrowsAsync<TimeoutException>(() => next.WaitAsync(TimeSpan.FromSeconds(1), Cancellation));
        b.Kill();

        await Assert.ThrowsAsync<SiloUnavailableException>(() => next.WaitAsync(Patience, Cancellation));
        Assert.Equal("Idle", (await onB.StatusAsync().WaitAsync(Patience, Cancellation)).Phase);
    }

    [Fact]
    public async Task Silos_that_start_together_join_over_an_empty_PostgreSQL_database()
    {
        string[] cluster =
        [
            "--cluster", TestServers.NewCluster(), "--cpu-threads", "1", "--membership", "postgres", "--connection",
            TestServers.Connection(servers.Postgres),
        ];
        SiloProcess[] silos = await Task.WhenAll(
            new[] { "a", "b", "c", "d" }.Select(name => SiloProcess.StartAsync([.. cluster, "--name", name])));
        try
        {
            await UntilAsync(cluster, "a", "b", "c", "d");
            silos[1].Kill();
            await UntilAsync(cluster, "a", "c", "d");
            silos[2].Terminate();
            Assert.Equal(0, await silos[2].WaitForExitAsync(Patience));
            await UntilAsync(cluster, "a", "d");
        }
        finally
        {
            foreach (SiloProcess silo in silos)
            {
                await silo.DisposeAsync();
            }
        }
    }

    [Fact]
    public async Task A_cluster_that_crashed_as_a_whole_starts_again_under_its_old_names()
    {
        string[] cluster = Redis(TestServers.NewCluster());
        for (int start = 0; start < 2; start++)
        {
            await using SiloProcess a = await SiloProcess.StartAsync([.. cluster, "--name", "a"]);
            await UntilAsync(cluster, "a");
            a.Kill();
        }
    }

    [Fact]
    public async Task A_localhost_cluster_ends_with_its_first_silo()
    {
        string name = TestServers.NewCluster();
        string port = $"{FreePorts.Of(System.Net.IPAddress.Loopback, 1)[0]}";
        await using SiloProcess first = await SiloProcess.StartAsync("--cluster", name, "--name", "first", "--silo-port", port);
        await using SiloProcess second = await SiloProcess.StartAsync(
            "--cluster", name, "--name", "second", "--join", first.Address);

        string[] cluster = ["--cluster", name, "--gateway", first.Gateway];
        await UntilAsync(cluster, "first", "second");
        first.Kill();

        Assert.Equal(1, await second.WaitForExitAsync(Patience));
        Assert.Contains("is gone and the cluster with it", Assert.Single(second.Errors), StringComparison.Ordinal);
    }

    private string[] Redis(string cluster) =>
    [
        "--cluster", cluster, "--membership", "redis", "--connection", TestServers.Connection(servers.Redis),
    ];

    private static async Task<JsonNode[]> SilosAsync(string[] cluster)
    {
        string[] reach = [.. Enumerable.Range(0, cluster.Length / 2).Where(i => cluster[2 * i] != "--cpu-threads")
            .SelectMany(i => cluster[(2 * i)..((2 * i) + 2)])];
        Outcome status = await KreweProgram.RunAsync(["status", .. reach, "--json"], cancellation: Cancellation);
        Assert.Equal("", status.Error);
        return [.. JsonNode.Parse(status.Out)!["silos"]!.AsArray().Select(silo => silo!)];
    }

    /// <summary>Waits until exactly these silos are active.</summary>
    private static async Task UntilAsync(string[] cluster, params string[] names)
    {
        long start = Stopwatch.GetTimestamp();
        string[] active;
        do
        {
            active = [.. (await SilosAsync(cluster)).Where(silo => (string)silo["state"]! == "active")
                .Select(silo => (string)silo["name"]!)];
        }
        while (!active.SequenceEqual(names) && Stopwatch.GetElapsedTime(start) < Patience);
        Assert.Equal(names, active);
    }
}
