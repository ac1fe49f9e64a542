using System.Collections.Concurrent;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// The silos of this process, so that one can call a grain on another without the network: an embedded cluster's silos
/// share their memory, and a loopback connection would cost a hundred times the call itself.
/// </summary>
public static class ProcessSilos
{
    private static readonly ConcurrentDictionary<(string Cluster, string Silo), IGrainFactory> Silos = new();
    private static readonly ConcurrentDictionary<(string Cluster, string Silo), DeviceLostException> Retired = new();

    /// <summary>Makes a silo known to the others of its process.</summary>
    public static void Add(string cluster, string silo, IGrainFactory grains) => Silos[(cluster, silo)] = grains;

    /// <summary>Forgets a silo that stops.</summary>
    public static void Remove(string cluster, string silo)
    {
        Silos.TryRemove((cluster, silo), out _);
        Retired.TryRemove((cluster, silo), out _);
    }

    /// <summary>
    /// Makes known that a silo has lost its device. As a member of its cluster it stays, where its process does: others
    /// of the process talk through it. For runs it has died.
    /// </summary>
    public static void Retire(string cluster, string silo, DeviceLostException loss) => Retired[(cluster, silo)] = loss;

    /// <summary>How a silo of this process lost its device, or null.</summary>
    public static DeviceLostException? LossOf(string cluster, string silo) =>
        Retired.GetValueOrDefault((cluster, silo));

    /// <summary>The silo's own grain factory, or null where it lives in another process.</summary>
    public static IGrainFactory? Find(string cluster, string silo) => Silos.GetValueOrDefault((cluster, silo));

    /// <summary>
    /// Runs a call to another silo of the process. It leaves the calling grain's context, since the reply belongs to
    /// the other silo's client and not to the grain; the await brings the caller back into its turn.
    /// </summary>
    public static Task<T> CallAsync<T>(Func<Task<T>> call) => Task.Run(call);

    /// <summary>As the other overload, for a call without a result.</summary>
    public static Task CallAsync(Func<Task> call) => Task.Run(call);
}
