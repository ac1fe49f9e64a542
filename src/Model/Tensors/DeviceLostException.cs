namespace Krewe.Model.Tensors;

/// <summary>
/// A device can compute nothing any more, and what lay in its memory is gone: a kernel ran wild, the card failed, or
/// it fell off its bus. No fault of the input, so no <see cref="KreweException"/>: whoever has the state elsewhere goes
/// on without the device. The message is one line that names the device and the call that found out.
/// </summary>
public sealed class DeviceLostException : Exception
{
    /// <summary>A device was lost.</summary>
    /// <param name="device">Name of the device, such as <c>cuda:0</c>.</param>
    /// <param name="call">Call that found out, such as <c>cuEventSynchronize</c>.</param>
    /// <param name="cause">What it said, one line.</param>
    /// <param name="inner">The exception of the call, where there was one.</param>
    public DeviceLostException(string device, string call, string cause, Exception? inner = null)
        : base($"device {device} is lost: {cause}", inner) => (Device, Call, Cause) = (device, call, cause);

    /// <summary>Name of the device.</summary>
    public string Device { get; }

    /// <summary>Call that found out.</summary>
    public string Call { get; }

    /// <summary>What it said, one line.</summary>
    public string Cause { get; }
}
