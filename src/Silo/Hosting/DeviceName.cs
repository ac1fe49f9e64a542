using System.Globalization;
using Krewe.Gpu.Driver;
using Krewe.Model;

namespace Krewe.Silo.Hosting;

/// <summary>A device as a command line names it: <c>cpu</c>, or <c>cuda:N</c> for a GPU.</summary>
/// <param name="CudaIndex">Number of the GPU, or null for the CPU.</param>
public readonly record struct DeviceName(int? CudaIndex)
{
    private const string CudaPrefix = "cuda:";

    /// <summary>The CPU.</summary>
    public static DeviceName Cpu { get; }

    /// <summary>True for a GPU.</summary>
    public bool IsCuda => CudaIndex is not null;

    /// <summary>Reads devices, several of them with commas between; says false where one is no device.</summary>
    public static bool TryParse(string text, out DeviceName[] devices)
    {
        string[] names = text.Split(',', StringSplitOptions.TrimEntries);
        devices = new DeviceName[names.Length];
        for (int i = 0; i < names.Length; i++)
        {
            string name = names[i];
            if (name.StartsWith(CudaPrefix, StringComparison.Ordinal) && int.TryParse(
                name.AsSpan(CudaPrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int index))
            {
                devices[i] = new(index);
            }
            else if (name != "cpu")
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Says at once where a GPU is missing, before anything starts.</summary>
    /// <exception cref="KreweException">There is no such GPU, or no kernel can be compiled for it.</exception>
    public static void ThrowIfMissing(IEnumerable<DeviceName> devices)
    {
        if (devices.FirstOrDefault(device => device.IsCuda) is not { IsCuda: true } first)
        {
            return;
        }

        CudaFindings found = CudaProbe.Run();
        if (found.Obstacle is { } obstacle)
        {
            throw new KreweException($"{first} is not to be had: {obstacle} ('krewe devices' shows what there is)");
        }

        foreach (DeviceName device in devices)
        {
            if (device.CudaIndex >= found.Devices.Count)
            {
                throw new KreweException(
                    $"{device} is not to be had: this machine has {found.Devices.Count} GPU{(found.Devices.Count == 1 ? "" : "s")}, from cuda:0 on");
            }
        }
    }

    /// <inheritdoc/>
    public override string ToString() =>
        CudaIndex is { } index ? CudaPrefix + index.ToString(CultureInfo.InvariantCulture) : "cpu";
}
