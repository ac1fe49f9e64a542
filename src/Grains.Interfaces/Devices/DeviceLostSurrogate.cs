using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>How the loss of a device crosses the wire.</summary>
[GenerateSerializer, Alias("krewe.DeviceLostException")]
public struct DeviceLostSurrogate
{
    /// <summary>Name of the device.</summary>
    [Id(0)] public string Device { get; set; }

    /// <summary>Call that found out.</summary>
    [Id(1)] public string Call { get; set; }

    /// <summary>What it said, one line.</summary>
    [Id(2)] public string Cause { get; set; }
}

/// <summary>Converts <see cref="DeviceLostException"/>.</summary>
[RegisterConverter]
public sealed class DeviceLostConverter : IConverter<DeviceLostException, DeviceLostSurrogate>
{
    /// <inheritdoc/>
    public DeviceLostException ConvertFromSurrogate(in DeviceLostSurrogate surrogate) =>
        new(surrogate.Device, surrogate.Call, surrogate.Cause);

    /// <inheritdoc/>
    public DeviceLostSurrogate ConvertToSurrogate(in DeviceLostException value) =>
        new() { Device = value.Device, Call = value.Call, Cause = value.Cause };
}
