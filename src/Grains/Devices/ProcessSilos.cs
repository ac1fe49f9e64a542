using System.Collections.Concurrent;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// The silos of this process, so that one can call a grain on another without the network: an embedded cluster's silos
/// share their memory, and a loopback connection would cost a hundred times the call itself.
/// </summary>
public static class ProcessSilos
{
    private static readonly
        ConcurrentDictionary<(string Cluster, string Silo), (string[] Places, IGrainFactory? Grains)> Silos = new();

    private static readonly ConcurrentDictionary<(string Cluster, string Place), DeviceLostException> Retired = new();

    /// <summary>Makes a silo known to the others of its process.</summary>
    /// <param name="cluster">Its cluster.</param>
    /// <param name="silo">Its name.</param>
    /// <param name="places">Names of its places.</param>
    /// <param name="grains">Its own grain factory; null where others shall call it as one of another process.</param>
    public static void Add(string cluster, string silo, string[] places, IGrainFactory? grains) =>
        Silos[(cluster, silo)] = (places, grains);

    /// <summary>Forgets a silo that stops.</summary>
    public static void Remove(string cluster, string silo)
    {
        if (Silos.TryRemove((cluster, silo), out (string[] Places, IGrainFactory?) removed))
        {
            foreach (string place in removed.Places)
            {
                Retired.TryRemove((cluster, place), out _);
            }
        }
    }

    /// <summary>
    /// Makes known that a place has lost its device. Its silo stays a member of its cluster where its process stays:
    /// others of the process talk through it. For runs the place has died.
    /// </summary>
    public static void Retire(string cluster, string place, DeviceLostException loss) =>
        Retired[(cluster, place)] = loss;

    /// <summary>How a place of this process lost its device, or null.</summary>
    public static DeviceLostException? LossOf(string cluster, string place) =>
        Retired.GetValueOrDefault((cluster, place));

    /// <summary>The places of a silo, or null where it lives in another process.</summary>
    public static string[]? PlacesOf(string cluster, string silo) => Silos.GetValueOrDefault((cluster, silo)).Places;

    /// <summary>The silo's own grain factory, or null where it lives in another process.</summary>
    public static IGrainFactory? Find(string cluster, string silo) => Silos.GetValueOrDefault((cluster, silo)).Grains;

    /// <summary>
    /// Runs a call to another silo of the process. It leaves the calling grain's context, since the reply belongs to
    /// the other silo's client and not to the grain; the await brings the caller back into its turn.
    /// </summary>
    public static Task<T> CallAsync<T>(Func<Task<T>> call) => Task.Run(call);

    /// <summary>As the other overload, for a call without a result.</summary>
    public static Task CallAsync(Func<Task> call) => Task.Run(call);
}
