using Krewe.Gpu.Devices;
using Krewe.Model;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Opens the devices that silos of this process compute on; those on the CPU share one pool of threads.
/// </summary>
/// <param name="names">Which ones; one that is named twice is two devices, which share the card or the CPU.</param>
/// <param name="cpuThreads">Computing threads of the pool; 0 for one per core.</param>
internal sealed class ProcessDevices(IReadOnlyList<DeviceName> names, int cpuThreads) : IDisposable
{
    private ComputePool? _pool;

    /// <summary>
    /// Shares devices out to silos: as many as there are silos, or fewer, go round, one for each; of more, each silo
    /// gets neighbouring ones, as evenly as they go.
    /// </summary>
    /// <param name="devices">How many devices are named.</param>
    /// <param name="silos">Silos of the process.</param>
    /// <returns>Devices of each silo.</returns>
    public static int[] Share(int devices, int silos) =>
    [
        .. Enumerable.Range(0, silos).Select(silo => devices <= silos
            ? 1
            : ((silo + 1) * devices / silos) - (silo * devices / silos)),
    ];

    /// <summary>Opens a device: they go round.</summary>
    /// <param name="number">Number of the device, counted over all silos of this process.</param>
    /// <returns>To be disposed by the caller, before this.</returns>
    /// <exception cref="KreweException">There is no such device; one line that says why.</exception>
    public IDevice Open(int number)
    {
        DeviceName name = names[number % names.Count];
        if (name.CudaIndex is { } index)
        {
            DeviceName.ThrowIfMissing([name]);
            return new CudaDevice(index);
        }

        _pool ??= ComputePool.ForThisMachine(cpuThreads > 0 ? cpuThreads : Environment.ProcessorCount);
        return new CpuDevice(_pool, $"cpu:{number}");
    }

    /// <summary>As <see cref="Open(int)"/>, several; where one cannot be opened, none is.</summary>
    /// <param name="first">Number of the first.</param>
    /// <param name="count">How many.</param>
    public IDevice[] Open(int first, int count)
    {
        var opened = new List<IDevice>(count);
        try
        {
            while (opened.Count < count)
            {
                opened.Add(Open(first + opened.Count));
            }

            return [.. opened];
        }
        catch
        {
            opened.ForEach(device => device.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _pool?.Dispose();
}
