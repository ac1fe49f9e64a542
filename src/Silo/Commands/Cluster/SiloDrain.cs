using System.Diagnostics;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model;
using Krewe.Silo.Hosting;
using Orleans.Runtime;
using Orleans.Runtime.Messaging;

namespace Krewe.Silo.Commands.Cluster;

/// <summary>What a drain did.</summary>
/// <param name="Silo">Name of the silo that has left.</param>
/// <param name="Runs">Runs that held something there.</param>
/// <param name="Moving">Until it held nothing.</param>
/// <param name="Leaving">From then until its cluster knew that it had left.</param>
internal sealed record DrainReport(string Silo, string[] Runs, TimeSpan Moving, TimeSpan Leaving);

/// <summary>
/// Empties a silo and lets it go. Every question is asked again when a silo is lost on the way: the drained one may drive
/// the run, or be the gateway.
/// </summary>
/// <param name="cluster">The cluster.</param>
/// <param name="silo">Name of the silo.</param>
/// <param name="deadline">For all of it.</param>
internal sealed class SiloDrain(ClusterConnection cluster, string silo, TimeSpan deadline)
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <summary>A run whose grain was activated anew is itself again within about a second.</summary>
    private static readonly TimeSpan OwnerDeadline = TimeSpan.FromSeconds(6);

    private readonly long _started = Stopwatch.GetTimestamp();
    private readonly SortedSet<string> _runs = new(StringComparer.Ordinal);

    /// <summary>Drains it.</summary>
    /// <exception cref="KreweException">It cannot be drained, or not in time; the message says why.</exception>
    public async Task<DrainReport> RunAsync(CancellationToken cancellation)
    {
        SiloAddress address = await FindAsync(cancellation);
        await EmptyAsync(cancellation);
        TimeSpan moving = Stopwatch.GetElapsedTime(_started);
        await LeaveAsync(address, cancellation);
        return new(silo, [.. _runs], moving, Stopwatch.GetElapsedTime(_started) - moving);
    }

    private async Task<SiloAddress> FindAsync(CancellationToken cancellation)
    {
        SiloMember[] active = await cluster.MembersAsync().WaitAsync(deadline, cancellation);
        string names = string.Join(", ", active.Select(member => $"'{member.Name}'"));
        SiloMember found = active.FirstOrDefault(member => member.Name == silo) ?? throw new KreweException(
            $"cluster '{cluster.Cluster}' has no active silo '{silo}', only {names}: name one of them");
        return active.Length > 1 ? found.Address : throw new KreweException(
            $"silo '{silo}' is the only one of cluster '{cluster.Cluster}': start another before it leaves, or end it with Ctrl-C");
    }

    private async Task EmptyAsync(CancellationToken cancellation)
    {
        long owned = Stopwatch.GetTimestamp();
        while (true)
        {
            HostedModelStatus[] held = await HeldAsync(cancellation);
            if (held.Length == 0)
            {
                return;
            }

            foreach (HostedModelStatus model in held)
            {
                bool isRun = await AskAsync(run => DrainAsync(run, cancellation), model.Name, cancellation);
                if (isRun)
                {
                    owned = Stopwatch.GetTimestamp();
                }
                else if (Stopwatch.GetElapsedTime(owned) > OwnerDeadline)
                {
                    throw new KreweException(
                        $"silo '{silo}' holds {model.Experts} experts and {model.Stages} stages of '{model.Name}', which no run " +
                        "trains: they cannot be moved; end whatever serves it, or end the silo with Ctrl-C");
                }
            }

            await Task.Delay(Pause, cancellation);
        }
    }

    private async Task<HostedModelStatus[]> HeldAsync(CancellationToken cancellation)
    {
        while (true)
        {
            if (await InTimeAsync(StatusAsync(), "its device does not answer", cancellation) is { } places)
            {
                return
                [
                    .. places.SelectMany(place => place.Models).GroupBy(model => model.Name)
                        .Select(model => new HostedModelStatus(
                            model.Key, model.Sum(part => part.Experts), model.Sum(part => part.Stages)))
                        .Where(model => model.Experts + model.Stages > 0),
                ];
            }
        }
    }

    /// <summary>What every device of the silo holds.</summary>
    private async Task<DeviceStatus[]> StatusAsync()
    {
        PlaceStatus[] places = await cluster.Grains.GetGrain<IDeviceGrain>(silo).PlacesAsync();
        return await Task.WhenAll(
            places.Select(place => cluster.Grains.GetGrain<IDeviceGrain>(place.Name).StatusAsync()));
    }

    /// <summary>True where a run owns the model, which then has moved.</summary>
    private async Task<bool> AskAsync(Func<ITrainingRunGrain, Task<bool>> ask, string name, CancellationToken cancellation)
    {
        try
        {
            return await ask(cluster.Grains.GetGrain<ITrainingRunGrain>(name));
        }
        catch (Exception exception) when (IsLoss(exception))
        {
            // The run goes on elsewhere, and is asked again there.
            await Task.Delay(Pause, cancellation);
            return true;
        }
    }

    private async Task<bool> DrainAsync(ITrainingRunGrain run, CancellationToken cancellation)
    {
        RunStatus status = await run.StatusAsync().WaitAsync(deadline, cancellation);
        if (status.Phase is "Idle" or "Finished" or "Failed")
        {
            return false;
        }

        string name = run.GetPrimaryKeyString();
        _runs.Add(name);
        string late = $"run '{name}' ({status.Phase.ToLowerInvariant()}, step {status.Step}) has not moved off it";
        await InTimeAsync(MoveAsync(run), late, cancellation);
        return true;
    }

    private async Task LeaveAsync(SiloAddress address, CancellationToken cancellation)
    {
        string late = "it holds nothing any more but has not left";
        while (true)
        {
            if (await InTimeAsync(cluster.MembersAsync(onlyActive: false), late, cancellation) is { } members)
            {
                SiloStatus state = members.FirstOrDefault(member => member.Address.Equals(address))?.State ?? SiloStatus.Dead;
                if (state == SiloStatus.Dead)
                {
                    return;
                }

                if (state == SiloStatus.Active)
                {
                    // Once is enough, but the call may be lost on its way.
                    await InTimeAsync(StopAsync(), late, cancellation);
                }
            }

            await Task.Delay(Pause, cancellation);
        }
    }

    private async Task<string> StopAsync()
    {
        await cluster.Grains.GetGrain<IDeviceGrain>(silo).StopAsync();
        return silo;
    }

    private async Task<string> MoveAsync(ITrainingRunGrain run)
    {
        await run.DrainAsync(silo);
        return silo;
    }

    /// <summary>The answer, or null where a silo was lost on the way.</summary>
    private async Task<T?> InTimeAsync<T>(Task<T> answer, string late, CancellationToken cancellation)
        where T : class
    {
        try
        {
            TimeSpan left = deadline - Stopwatch.GetElapsedTime(_started);
            return await answer.WaitAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero, cancellation);
        }
        catch (TimeoutException exception)
        {
            throw new KreweException(
                $"silo '{silo}' was not drained within {deadline.TotalSeconds:F0} s: {late}; give a longer --deadline", exception);
        }
        catch (Exception exception) when (IsLoss(exception))
        {
            await Task.Delay(Pause, cancellation);
            return null;
        }
    }

    private static bool IsLoss(Exception exception) => exception is OrleansException or ConnectionFailedException;
}
