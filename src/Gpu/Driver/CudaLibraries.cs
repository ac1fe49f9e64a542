using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver;

/// <summary>Names of CUDA's libraries and the places where they may lie.</summary>
internal static class CudaLibraries
{
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
