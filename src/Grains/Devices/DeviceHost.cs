using System.Collections.Concurrent;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// A place, which is a device of a silo, and its store: weights, moments and activations of every model, owned by the
/// silo and not by any grain, so that a grain that is activated anew attaches in microseconds.
/// </summary>
/// <param name="place">Name of the place: see <see cref="PlaceName"/>.</param>
/// <param name="device">Its device; disposed with the host.</param>
/// <param name="process">Process identity of the silo.</param>
public sealed class DeviceHost(string place, IDevice device, Guid process) : IDisposable
{
    private readonly ConcurrentDictionary<string, HostedModel> _models = new(StringComparer.Ordinal);
    private readonly ConcurrentBag<HostedModel> _abandoned = [];

    /// <summary>Name of the place.</summary>
    public string Place { get; } = place;

    /// <summary>The device.</summary>
    public IDevice Device { get; } = device;

    /// <summary>What others may know the silo's process by: they pass tensors by reference to the same one.</summary>
    public Guid Process { get; } = process;

    /// <summary>Models with anything on this device.</summary>
    public IEnumerable<HostedModel> Models => _models.Values;

    /// <summary>The part of a model that lives here, created empty when first asked for.</summary>
    public HostedModel ModelOf(string model) => _models.GetOrAdd(model, name => new(name, Place, Device));

    /// <summary>Frees everything of a model.</summary>
    public void Unload(string model)
    {
        if (_models.TryRemove(model, out HostedModel? hosted))
        {
            hosted.Dispose();
        }
    }

    /// <summary>
    /// Frees everything of a model behind all work that touches it. Of a device that is lost nothing comes back before
    /// it is disposed: who still works on it is not known.
    /// </summary>
    public async Task UnloadAsync(string model)
    {
        if (!Device.Loss.IsLost)
        {
            await Device.SubmitAsync(_ => Unload(model), WorkPriority.Background);
        }
        else if (_models.TryRemove(model, out HostedModel? hosted))
        {
            _abandoned.Add(hosted);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The device first: it waits for work that still touches the memory freed below.
        Device.Dispose();
        foreach (string model in _models.Keys)
        {
            Unload(model);
        }

        foreach (HostedModel model in _abandoned)
        {
            model.Dispose();
        }
    }
}
