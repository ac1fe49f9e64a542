using System.Diagnostics;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Krewe.Cluster;

/// <summary>
/// Tensors of 1 MB from this process to another one, over Unix-domain sockets and TCP in turn, while an empty grain
/// call goes back and forth between their silos.
/// </summary>
internal static class ChannelSpeed
{
    private const int TensorFloats = 1 << 18;
    private const int InFlight = 8;
    private const int TensorsPerRound = 2048;
    private const int TensorsPerCall = 64;

    public static async Task RunAsync(BenchmarkOptions options)
    {
        await using ChannelProcesses processes = await ChannelProcesses.StartAsync();
        IChannelPeerGrain peer = processes.Local.Services.GetRequiredService<IGrainFactory>().GetGrain<IChannelPeerGrain>(0);
        using var arena = new HostArena("benchmark");
        Tensor[] tensors = [.. Enumerable.Range(0, InFlight).Select(_ => Filled(arena))];
        TensorChannel plain = processes.Local.Services.GetRequiredService<TensorChannel>();
        await using var checking = new TensorChannel("checking", new() { ChecksumValues = true });
        await checking.StartAsync();
        ChannelAddress unix = await peer.AddressAsync(overUnix: true);
        ChannelAddress tcp = await peer.AddressAsync(overUnix: false);
        Case[] cases =
        [
            new("Unix-domain socket", unix, plain, TensorsPerCall),
            new("TCP loopback", tcp, plain, TensorsPerCall),
            new("Unix-domain socket, a grain call per tensor", unix, plain, 1),
            new("TCP loopback, a grain call per tensor", tcp, plain, 1),
            new("Unix-domain socket with checksums", unix, checking, TensorsPerCall),
            new("TCP loopback with checksums", tcp, checking, TensorsPerCall),
        ];
        var idle = new List<double>();
        double others = await Machine.OthersDuringAsync(
            async () =>
            {
                for (int round = -3; round < options.Rounds; round++)
                {
                    foreach (Case one in cases)
                    {
                        await MeasureAsync(one, peer, tensors, keep: round >= 0);
                    }

                    if (round >= 0)
                    {
                        idle.AddRange(await PingsAsync(peer, Task.Delay(300)));
                    }
                }
            },
            processes.Child);
        Console.WriteLine($"1 MB tensors between two processes, {InFlight} in flight, {TensorsPerRound} a round");
        foreach (Case one in cases)
        {
            double cost = one.Seconds.Count == 0 ? 0 : Machine.Median(one.Seconds);
            Console.WriteLine($"  {one.Name}: GB/s {Machine.Spread(one.Rates, "F2")}");
            Console.WriteLine($"    CPU of both processes per GB: {cost:F2} s; empty grain call meanwhile, us: {Percentiles(one.Pings)}");
        }

        Console.WriteLine($"  empty grain call on idle silos, us: {Percentiles(idle)}");
        Console.WriteLine($"  checksums, rate against none: Unix {Ratio(cases[4], cases[0]):F3}, TCP {Ratio(cases[5], cases[1]):F3}; other processes used {others:F2} cores");

        async Task MeasureAsync(Case one, IChannelPeerGrain grain, Tensor[] sources, bool keep)
        {
            TimeSpan before = Used();
            long started = Stopwatch.GetTimestamp();
            Task sending = SendAsync(one, grain, sources);
            List<double> pings = await PingsAsync(grain, sending);
            await sending;
            double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
            double gigabytes = 1e-9 * TensorsPerRound * TensorFloats * sizeof(float);
            if (keep)
            {
                one.Rates.Add(gigabytes / seconds);
                one.Seconds.Add((Used() - before).TotalSeconds / gigabytes);
                one.Pings.AddRange(pings);
            }
        }

        TimeSpan Used()
        {
            processes.Child.Refresh();
            return Process.GetCurrentProcess().TotalProcessorTime + processes.Child.TotalProcessorTime;
        }
    }

    /// <summary>Memory never written to would all be the kernel's one page of zeros, and cheap to read.</summary>
    private static Tensor Filled(HostArena arena)
    {
        Tensor tensor = arena.Allocate(TensorFloats);
        tensor.AsSpan<float>().Fill(1.5f);
        return tensor;
    }

    private static async Task SendAsync(Case one, IChannelPeerGrain grain, Tensor[] sources)
    {
        int next = 0;
        await Task.WhenAll(sources.Select(source => Task.Run(async () =>
        {
            // Each lane announces a call's worth of tickets and sends them one after another.
            int share = Math.Max(1, one.PerCall / InFlight);
            while (Interlocked.Add(ref next, share) <= TensorsPerRound)
            {
                TensorTicket[] tickets = [.. Enumerable.Range(0, share).Select(_ => one.Channel.Announce(source, 1, 1))];
                Task call = grain.ReceiveAsync(tickets, one.Peer.UnixSocket is not null);
                foreach (TensorTicket ticket in tickets)
                {
                    await one.Channel.SendAsync(one.Peer, ticket, source);
                }

                await call;
            }
        })));
    }

    private static async Task<List<double>> PingsAsync(IChannelPeerGrain grain, Task until)
    {
        var microseconds = new List<double>();
        while (!until.IsCompleted)
        {
            long started = Stopwatch.GetTimestamp();
            await grain.PingAsync();
            microseconds.Add(Stopwatch.GetElapsedTime(started).TotalMicroseconds);

            // Without a pause the calls alone would keep a core busy that the transfer needs.
            await Task.Delay(1);
        }

        return microseconds;
    }

    private static double Ratio(Case one, Case other) =>
        Machine.Median(one.Rates.Zip(other.Rates, (a, b) => a / b));

    private static string Percentiles(List<double> values)
    {
        values.Sort();
        return $"p50 {values[values.Count / 2]:F0}, p99 {values[values.Count * 99 / 100]:F0} (n={values.Count})";
    }

    private sealed record Case(string Name, ChannelAddress Peer, TensorChannel Channel, int PerCall)
    {
        public List<double> Rates { get; } = [];

        public List<double> Seconds { get; } = [];

        public List<double> Pings { get; } = [];
    }
}
