using System.Runtime.InteropServices;
using System.Text;

namespace Krewe.Gpu.Driver;

/// <summary>One GPU.</summary>
/// <param name="Index">Number that the driver gives it.</param>
/// <param name="Name">Name of the card.</param>
/// <param name="MemoryBytes">Memory.</param>
/// <param name="ComputeCapability">Such as <c>9.0</c>.</param>
/// <param name="Multiprocessors">Streaming multiprocessors.</param>
public sealed record CudaDeviceInfo(
    int Index, string Name, long MemoryBytes, string ComputeCapability, int Multiprocessors);

/// <summary>What of CUDA this machine has.</summary>
public sealed record CudaFindings
{
    /// <summary>File name of the driver library, or null where it cannot be loaded.</summary>
    public string? Driver { get; init; }

    /// <summary>Newest CUDA version that the driver speaks, such as <c>13.0</c>.</summary>
    public string? DriverVersion { get; init; }

    /// <summary>Why there are no devices although there is a driver, or null.</summary>
    public string? Fault { get; init; }

    /// <summary>The GPUs.</summary>
    public IReadOnlyList<CudaDeviceInfo> Devices { get; init; } = [];

    /// <summary>File name of the run-time compiler, or null.</summary>
    public string? Nvrtc { get; init; }

    /// <summary>File name of the matrix product library, or null.</summary>
    public string? CublasLt { get; init; }

    /// <summary>What keeps kernels from running on this machine, or null. cuBLASLt is not needed for it.</summary>
    public string? Obstacle => this switch
    {
        { Driver: null } => "this machine has no NVIDIA driver",
        { Fault: { } fault } => fault,
        { Devices.Count: 0 } => "the driver knows no device",
        { Nvrtc: null } => "NVRTC is missing, so no kernel can be compiled",
        _ => null,
    };
}

/// <summary>
/// Looks for GPUs and the libraries that Krewe's kernels need. Never throws: a machine without a GPU is nothing
/// unusual.
/// </summary>
public static unsafe class CudaProbe
{
    private const int MultiprocessorCount = 16;
    private const int ComputeCapabilityMajor = 75;
    private const int ComputeCapabilityMinor = 76;

    /// <summary>Asks the driver.</summary>
    public static CudaFindings Run()
    {
        CudaFindings libraries = new()
        {
            Nvrtc = CudaLibraries.Find(CudaLibraries.Nvrtc, out nint nvrtc),
            CublasLt = CudaLibraries.Find(CudaLibraries.CublasLt, out nint cublasLt),
        };
        CudaLibraries.Free(nvrtc);
        CudaLibraries.Free(cublasLt);
        // The driver stays loaded: it does not like to be unloaded once it has started.
        string? driver = CudaLibraries.Find(CudaLibraries.Driver, out nint handle);
        return driver is null ? libraries : ReadDriver(handle, libraries with { Driver = driver });
    }

    private static CudaFindings ReadDriver(nint library, CudaFindings findings)
    {
        if (!Export(library, "cuInit", out nint init) || !Export(library, "cuDriverGetVersion", out nint getVersion)
            || !Export(library, "cuDeviceGetCount", out nint getCount))
        {
            return findings with { Fault = "the driver library lacks cuInit: it is damaged, or a stub for linking" };
        }

        int version = 0, count = 0;
        int code = ((delegate* unmanaged<int*, int>)getVersion)(&version);
        string? versionText = code == 0 ? $"{version / 1000}.{version % 1000 / 10}" : null;
        findings = findings with { DriverVersion = versionText };
        code = ((delegate* unmanaged<uint, int>)init)(0);
        if (code != 0)
        {
            return findings with { Fault = $"cuInit failed: {ErrorName(library, code)}" };
        }

        code = ((delegate* unmanaged<int*, int>)getCount)(&count);
        return code != 0
            ? findings with { Fault = $"cuDeviceGetCount failed: {ErrorName(library, code)}" }
            : findings with
            {
                Devices = [.. Enumerable.Range(0, count).Select(i => ReadDevice(library, i)).OfType<CudaDeviceInfo>()],
            };
    }

    private static CudaDeviceInfo? ReadDevice(nint library, int index)
    {
        if (!Export(library, "cuDeviceGet", out nint get) || !Export(library, "cuDeviceGetName", out nint getName)
            || !Export(library, "cuDeviceTotalMem_v2", out nint getMemory)
            || !Export(library, "cuDeviceGetAttribute", out nint getAttribute))
        {
            return null;
        }

        int device = 0;
        if (((delegate* unmanaged<int*, int, int>)get)(&device, index) != 0)
        {
            return null;
        }

        byte* name = stackalloc byte[256];
        nuint memory = 0;
        int named = ((delegate* unmanaged<byte*, int, int, int>)getName)(name, 255, device);
        _ = ((delegate* unmanaged<nuint*, int, int>)getMemory)(&memory, device);
        var attribute = (delegate* unmanaged<int*, int, int, int>)getAttribute;
        int major = 0, minor = 0, multiprocessors = 0;
        _ = attribute(&major, ComputeCapabilityMajor, device);
        _ = attribute(&minor, ComputeCapabilityMinor, device);
        _ = attribute(&multiprocessors, MultiprocessorCount, device);
        string text = named == 0 ? Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(name)) : "?";
        return new(index, text, (long)memory, $"{major}.{minor}", multiprocessors);
    }

    private static string ErrorName(nint library, int code)
    {
        byte* name = null;
        return Export(library, "cuGetErrorName", out nint get)
            && ((delegate* unmanaged<int, byte**, int>)get)(code, &name) == 0 && name is not null
                ? $"{Marshal.PtrToStringUTF8((nint)name)} ({code})"
                : $"error {code}";
    }

    private static bool Export(nint library, string name, out nint address) =>
        NativeLibrary.TryGetExport(library, name, out address);
}
