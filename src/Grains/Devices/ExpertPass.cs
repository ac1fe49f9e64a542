using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>What the experts of a silo keep of one layer and micro-batch; used again for another when it is over.</summary>
/// <param name="device">Where it lives.</param>
/// <param name="name">For the memory report.</param>
public sealed class ExpertPass(IDevice device, string name) : IDisposable
{
    /// <summary>Rows that came from another process.</summary>
    public Arena Received { get; } = device.CreateArena($"{name}, received");

    /// <summary>Activations.</summary>
    public ExpertBatch Batch { get; } = new(device, name);

    /// <summary>The sender's slice; it may change once the backward was answered.</summary>
    public ExpertSlice Slice { get; set; } = new();

    /// <summary>True between the backward and the weight gradients.</summary>
    public bool HasGradients { get; set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Received.Dispose();
        Batch.Dispose();
    }
}
