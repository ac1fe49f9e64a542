using Krewe.Gpu.Devices;
using Krewe.Model;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Opens the devices that silos of this process compute on; those on the CPU share one pool of threads.
/// </summary>
/// <param name="names">Which ones; a second silo of the same GPU shares the card with the first.</param>
/// <param name="cpuThreads">Computing threads of the pool; 0 for one per core.</param>
internal sealed class ProcessDevices(IReadOnlyList<DeviceName> names, int cpuThreads) : IDisposable
{
    private ComputePool? _pool;

    /// <summary>Opens the device of a silo: they go round.</summary>
    /// <param name="silo">Number of the silo in this process.</param>
    /// <returns>To be disposed by the caller, before this.</returns>
    /// <exception cref="KreweException">There is no such device; one line that says why.</exception>
    public IDevice Open(int silo)
    {
        DeviceName name = names[silo % names.Count];
        if (name.CudaIndex is { } index)
        {
            DeviceName.ThrowIfMissing([name]);
            return new CudaDevice(index);
        }

        _pool ??= ComputePool.ForThisMachine(cpuThreads > 0 ? cpuThreads : Environment.ProcessorCount);
        return new CpuDevice(_pool, $"cpu:{silo}");
    }

    /// <inheritdoc/>
    public void Dispose() => _pool?.Dispose();
}
