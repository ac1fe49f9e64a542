namespace Krewe.Model.Tensors;

/// <summary>
/// Whether a device is lost, and to what. Whoever finds out reports it, once and for all: from then on every call to
/// the device fails at once with <see cref="DeviceLostException"/>, and those who registered hear of it. Thread-safe.
/// </summary>
/// <param name="device">Name of the device.</param>
public sealed class DeviceLoss(string device)
{
    private readonly Lock _lock = new();
    private volatile DeviceLostException? _first;
    private Action<DeviceLostException>? _listeners;

    /// <summary>True once the device is lost.</summary>
    public bool IsLost => _first is not null;

    /// <summary>Says that the device is lost. What was reported first stands.</summary>
    /// <param name="call">Call that found out.</param>
    /// <param name="cause">What it said, one line.</param>
    /// <param name="inner">The exception of the call, where there was one.</param>
    /// <returns>To be thrown, after all who registered were told.</returns>
    public DeviceLostException Report(string call, string cause, Exception? inner = null)
    {
        Action<DeviceLostException>? listeners = null;
        lock (_lock)
        {
            if (_first is null)
            {
                _first = new(device, call, cause, inner);
                (listeners, _listeners) = (_listeners, null);
            }
        }

        listeners?.Invoke(_first);
        return Again(_first);
    }

    /// <summary>Calls back when the device is lost: once, on the thread that reports it, or now where it is lost.</summary>
    public void Register(Action<DeviceLostException> listener)
    {
        lock (_lock)
        {
            if (_first is null)
            {
                _listeners += listener;
                return;
            }
        }

        listener(_first);
    }

    /// <summary>The exception for a call to the device, or null while it is not lost.</summary>
    public DeviceLostException? ForCall() => _first is { } first ? Again(first) : null;

    /// <summary>Refuses a call to a device that is lost.</summary>
    /// <exception cref="DeviceLostException">It is.</exception>
    public void ThrowIfLost()
    {
        if (ForCall() is { } lost)
        {
            throw lost;
        }
    }

    /// <summary>An exception for each call: several threads throw them, each with its own trace.</summary>
    private static DeviceLostException Again(DeviceLostException first) =>
        new(first.Device, first.Call, first.Cause, first.InnerException);
}
