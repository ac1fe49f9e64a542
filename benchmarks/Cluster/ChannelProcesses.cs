using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Krewe.Grains;
using Krewe.Grains.Devices.Channel;
using Krewe.Model.Kernels.Cpu;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Krewe.Cluster;

/// <summary>A silo in this process and one in a child of it, which ends with it.</summary>
internal sealed class ChannelProcesses : IAsyncDisposable
{
    public const string ChildMode = "channel-child";

    private ChannelProcesses(IHost local, Process child) => (Local, Child) = (local, child);

    public IHost Local { get; }

    public Process Child { get; }

    public static async Task<ChannelProcesses> StartAsync()
    {
        int[] ports = FreePorts(4);
        IHost local = Build("parent", ports[0], ports[1], ports[0]);
        await local.StartAsync();
        string program = Environment.ProcessPath!;
        bool isHost = Path.GetFileNameWithoutExtension(program) == "dotnet";
        var start = new ProcessStartInfo(program) { RedirectStandardInput = true, RedirectStandardOutput = true };
        string[] arguments = [ChildMode, .. new[] { ports[2], ports[3], ports[0] }.Select(port => port.ToString(CultureInfo.InvariantCulture))];
        foreach (string argument in isHost ? [typeof(ChannelProcesses).Assembly.Location, .. arguments] : arguments)
        {
            start.ArgumentList.Add(argument);
        }

        Process child = Process.Start(start)!;
        string? line = await child.StandardOutput.ReadLineAsync();
        return line == "ready" ? new(local, child) : throw new InvalidOperationException($"the child process said '{line}'");
    }

    /// <summary>The child: a silo that lives until its standard input ends.</summary>
    public static async Task RunChildAsync(string[] ports)
    {
        int[] numbers = [.. ports.Select(port => int.Parse(port, CultureInfo.InvariantCulture))];
        using IHost host = Build("child", numbers[0], numbers[1], numbers[2]);
        await host.StartAsync();
        TensorChannel tcp = host.Services.GetRequiredKeyedService<TensorChannel>(ChannelPeerGrain.Tcp);
        await tcp.StartAsync();

        // Activates the grain here, where it was asked for first.
        await host.Services.GetRequiredService<IGrainFactory>().GetGrain<IChannelPeerGrain>(0).PingAsync();
        Console.WriteLine("ready");
        await Console.In.ReadLineAsync();
        await host.StopAsync();
    }

    public async ValueTask DisposeAsync()
    {
        Child.StandardInput.Close();
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            await Child.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            Child.Kill();
        }

        Child.Dispose();
        await Local.StopAsync();
        Local.Dispose();
    }

    private static IHost Build(string name, int siloPort, int gatewayPort, int primaryPort)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        builder.Services.AddKeyedSingleton(
            ChannelPeerGrain.Tcp, (_, _) => new TensorChannel($"{name}-tcp", new() { UnixSocketFolder = null }));
        builder.UseOrleans(silo =>
        {
            silo.UseLocalhostClustering(
                siloPort, gatewayPort, new IPEndPoint(IPAddress.Loopback, primaryPort), "channel", "channel");
            silo.AddKrewe(name, _ => [new CpuDevice(ComputePool.ForThisMachine(1), "cpu:0")]);
        });
        return builder.Build();
    }

    private static int[] FreePorts(int count)
    {
        TcpListener[] listeners = [.. Enumerable.Range(0, count).Select(_ => new TcpListener(IPAddress.Loopback, 0))];
        Array.ForEach(listeners, listener => listener.Start());
        int[] ports = [.. listeners.Select(listener => ((IPEndPoint)listener.LocalEndpoint).Port)];
        Array.ForEach(listeners, listener => listener.Dispose());
        return ports;
    }
}
