using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Names of CUDA's libraries and the places where they may lie. They load when the first function of one is called, so
/// a machine without a GPU never touches them.
/// </summary>
internal static class CudaLibraries
{
    /// <summary>The driver's library, as <see cref="LibraryImportAttribute"/> names it.</summary>
    public const string DriverImport = "krewe-cuda-driver";

    /// <summary>The run-time compiler, as <see cref="LibraryImportAttribute"/> names it.</summary>
    public const string NvrtcImport = "krewe-nvrtc";

    /// <summary>The matrix product library, as <see cref="LibraryImportAttribute"/> names it.</summary>
    public const string CublasLtImport = "krewe-cublaslt";

    private static readonly bool _windows = OperatingSystem.IsWindows();

    /// <summary>The driver's library, which comes with the driver.</summary>
    public static IReadOnlyList<string> Driver { get; } = _windows ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];

    /// <summary>The run-time compiler, newest first.</summary>
    public static IReadOnlyList<string> Nvrtc { get; } = _windows
        ? ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
        : ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

    /// <summary>The matrix product library, newest first.</summary>
    public static IReadOnlyList<string> CublasLt { get; } = _windows
        ? ["cublasLt64_13.dll", "cublasLt64_12.dll"]
        : ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"];

    /// <summary>Loads the first of <paramref name="names"/> that can be loaded and says which it was.</summary>
    public static string? Find(IReadOnlyList<string> names, out nint handle)
    {
        foreach (string folder in Folders())
        {
            foreach (string name in names)
            {
                string path = folder.Length == 0 ? name : Path.Combine(folder, name);
                if (NativeLibrary.TryLoad(path, out handle))
                {
                    return path;
                }
            }
        }

        handle = 0;
        return null;
    }

    /// <summary>Unloads what <see cref="Find"/> loaded; nothing for zero.</summary>
    public static void Free(nint handle)
    {
        if (handle != 0)
        {
            NativeLibrary.Free(handle);
        }
    }

    /// <summary>Binds the import names to the first library found, before any of them is called.</summary>
    [ModuleInitializer]
    [System.Diagnostics.CodeAnalysis.SuppressMessage(
        "Usage", "CA2255", Justification = "The resolver must stand before the first call, whichever type makes it.")]
    internal static void Register() =>
        NativeLibrary.SetDllImportResolver(typeof(CudaLibraries).Assembly, Resolve);

    /// <summary>The library behind an import name; one line that says what is missing where there is none.</summary>
    private static nint Resolve(string import, Assembly assembly, DllImportSearchPath? search)
    {
        (IReadOnlyList<string> names, string purpose) = import switch
        {
            DriverImport => (Driver, "install NVIDIA's driver, or compute on cpu:0"),
            NvrtcImport => (Nvrtc, "it compiles the GPU kernels and is part of the CUDA toolkit 12 or 13"),
            CublasLtImport => (CublasLt, "it multiplies matrices and is part of the CUDA toolkit 12 or 13"),
            _ => ([], ""),
        };
        if (names.Count == 0)
        {
            return 0;
        }

        return Find(names, out nint handle) is not null
            ? handle
            : throw new DllNotFoundException($"{string.Join(" and ", names)} cannot be loaded: {purpose}");
    }

    /// <summary>The loader's own search, then the toolkit's usual places.</summary>
    private static IEnumerable<string> Folders()
    {
        yield return "";
        if (Environment.GetEnvironmentVariable("CUDA_PATH") is { Length: > 0 } path)
        {
            yield return Path.Combine(path, _windows ? "bin" : "lib64");
        }

        if (!_windows)
        {
            yield return "/usr/local/cuda/lib64";
        }
    }
}
