using Krewe.Grains.Devices;
using Krewe.Grains.Placement;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Orleans.Runtime;

namespace Krewe.Grains;

/// <summary>Adds Krewe's grains and services to a silo.</summary>
public static class SiloBuilderExtensions
{
    /// <summary>
    /// Makes the silo a holder of experts and stages: its device and store, pinned placement, a grain directory that
    /// survives the death of other silos.
    /// </summary>
    /// <param name="silo">The silo under construction.</param>
    /// <param name="name">Name of the silo, as placement plans know it.</param>
    /// <param name="device">Makes the silo's device; the silo disposes it.</param>
    /// <param name="inBand">Sends tensors as bytes even within a process; for tests.</param>
    public static ISiloBuilder AddKrewe(
        this ISiloBuilder silo, string name, Func<IServiceProvider, IDevice> device, bool inBand = false)
    {
        silo.Configure<Orleans.Configuration.SiloOptions>(options => options.SiloName = name);
        silo.AddPlacementDirector<DevicePlacement, DevicePlacementDirector>();
        silo.AddDistributedGrainDirectory();
        silo.Services.AddSingleton(services => new DeviceHost(name, device(services), inBand));
        silo.Services.AddSingleton<ParameterSources>();
        silo.Services.AddSingleton<PlacementPlans>();
        silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, ProcessSiloRegistration>();
        silo.Services.TryAddSingleton(TimeProvider.System);
        return silo;
    }
}
