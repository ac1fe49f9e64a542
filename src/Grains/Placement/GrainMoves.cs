using Orleans.Runtime;
using Orleans.Runtime.Placement;

namespace Krewe.Grains.Placement;

/// <summary>Moves pinned grains to the silo of the place that the plan names.</summary>
/// <remarks>
/// A grain that merely deactivates itself comes back where it was: other silos remember its address, and a silo that is
/// called for a grain it does not have activates it. A migration leaves a forwarding address (measured on 10.4.2).
/// </remarks>
/// <param name="hosts">The silo's places: between them a grain need not move.</param>
/// <param name="places">Finds the other silo.</param>
public sealed class GrainMoves(Devices.DeviceHosts hosts, LivePlaces places)
{
    private static readonly TimeSpan ArrivalDeadline = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan ArrivalPause = TimeSpan.FromMilliseconds(20);

    /// <summary>Sends a grain on its way, where it is not at home.</summary>
    /// <param name="migrate">The grain's <c>MigrateOnIdle</c>, called in one of its turns.</param>
    /// <param name="home">Name of the place that the plan names.</param>
    public void Send(Action migrate, string home)
    {
        if (hosts.Find(home) is null && places.Find(PlaceName.SiloOf(home)) is { } address)
        {
            RequestContext.Set(IPlacementDirector.PlacementHintKey, address);
            migrate();
        }
    }

    /// <summary>Makes a call again for as long as its grain is on its way.</summary>
    /// <exception cref="MisplacedGrainException">It did not arrive in time.</exception>
    public static async Task<T> UntilAtHomeAsync<T>(Func<Task<T>> call)
    {
        using var deadline = new CancellationTokenSource(ArrivalDeadline);
        while (true)
        {
            try
            {
                return await call();
            }
            catch (MisplacedGrainException) when (!deadline.IsCancellationRequested)
            {
                await Task.Delay(ArrivalPause, CancellationToken.None);
            }
        }
    }

    /// <summary>As the other overload, for a call without a result.</summary>
    public static Task UntilAtHomeAsync(Func<Task> call) => UntilAtHomeAsync(async () =>
    {
        await call();
        return true;
    });

    /// <summary>Refuses a call to a grain that is not at home, and sends it on its way.</summary>
    /// <returns>The host of the place that the plan names.</returns>
    /// <exception cref="MisplacedGrainException">The grain is not at home yet.</exception>
    public Devices.DeviceHost EnsureAtHome(Action migrate, GrainId grain, string home)
    {
        if (hosts.Find(home) is { } host)
        {
            return host;
        }

        Send(migrate, home);
        throw new MisplacedGrainException($"{grain} belongs on silo '{home}' and still is on '{hosts.Silo}'");
    }
}
