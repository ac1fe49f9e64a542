using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>A tensor that is handed over within a process, and what reaches it.</summary>
/// <param name="Tensor">The sender's own.</param>
/// <param name="Device">Device whose memory it lies in; null for host memory.</param>
public sealed record SharedTensor(Tensor Tensor, IDevice? Device)
{
    /// <summary>Memory that it lies in.</summary>
    public string MemorySpace => Device?.MemorySpace ?? IDevice.HostSpace;

    /// <summary>A view where the host reaches it, else a copy in an arena of the host.</summary>
    public ValueTask<Tensor> OnHostAsync(Arena arena) =>
        Device is null ? new(Tensor) : new(Device.CopyAsync(Tensor, arena));
}
