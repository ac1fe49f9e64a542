using Krewe.Grains.Devices;
using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Placement;
using Krewe.Grains.Training;
using Krewe.Model.Tensors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Orleans.Runtime;
using Orleans.Serialization.Cloning;
using Orleans.Serialization.Serializers;

namespace Krewe.Grains;

/// <summary>Adds Krewe's grains and services to a silo.</summary>
public static class SiloBuilderExtensions
{
    /// <summary>
    /// Makes the silo a holder of experts and stages: its devices and stores, pinned placement, a grain directory that
    /// survives the death of other silos.
    /// </summary>
    /// <param name="silo">The silo under construction.</param>
    /// <param name="name">Name of the silo, as placement plans know it.</param>
    /// <param name="devices">Makes the silo's devices, each a place of plans; the silo disposes them.</param>
    /// <param name="inBand">Sends tensors as bytes even within a process; for tests.</param>
    /// <param name="channel">
    /// Settings of the silo's <see cref="TensorChannel"/>, a service of the silo; null for the silo's own address.
    /// </param>
    /// <param name="sockets">
    /// Folder of the channel's Unix-domain socket, where there are no settings; null for the usual one.
    /// </param>
    public static ISiloBuilder AddKrewe(
        this ISiloBuilder silo, string name, Func<IServiceProvider, IReadOnlyList<IDevice>> devices,
        bool inBand = false, TensorChannelOptions? channel = null, string? sockets = null)
    {
        silo.Configure<Orleans.Configuration.SiloOptions>(options => options.SiloName = name);
        silo.AddPlacementDirector<DevicePlacement, DevicePlacementDirector>();
        silo.AddDistributedGrainDirectory();
        silo.Services.AddSingleton(services => new DeviceHosts(name, devices(services), inBand));
        silo.Services.AddSingleton<IGeneralizedCodec, KreweFaultCodec>();
        silo.Services.AddSingleton<IGeneralizedCopier, KreweFaultCodec>();
        silo.Services.AddSingleton<ParameterSources>();
        silo.Services.AddSingleton<PlacementPlans>();
        silo.Services.AddSingleton<TensorPosts>();
        silo.Services.AddSingleton<LivePlaces>();
        silo.Services.AddSingleton<GrainMoves>();
        silo.Services.AddSingleton(FaultPoints.Parse(Environment.GetEnvironmentVariable(FaultPoints.Variable)));
        silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, RunAttendance>();
        silo.Services.AddSingleton<StateRestorer>();
        silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, ProcessSiloRegistration>();
        silo.Services.AddSingleton(services => ChannelLifecycle.Create(services, name, channel, sockets));
        silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, ChannelLifecycle>();
        silo.Services.TryAddSingleton(TimeProvider.System);
        return silo;
    }
}
