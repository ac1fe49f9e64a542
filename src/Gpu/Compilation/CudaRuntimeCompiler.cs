using System.Runtime.InteropServices;
using System.Text;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Compilation;

/// <summary>
/// NVRTC: from CUDA C++ to machine code for one compute capability. No header of the toolkit is read, so a machine with
/// a driver and NVRTC is enough.
/// </summary>
public sealed unsafe class CudaRuntimeCompiler
{
    private const string Contraction = "--fmad";

    /// <summary>Compilations at once in this process, however many devices it has: each takes a core and much memory.</summary>
    private static readonly SemaphoreSlim _room = new(Environment.ProcessorCount);

    /// <summary>Finds the compiler.</summary>
    /// <param name="computeCapability">Of the device, such as 9.0.</param>
    /// <exception cref="CudaException">There is no NVRTC on this machine.</exception>
    public CudaRuntimeCompiler(Version computeCapability)
    {
        try
        {
            Check(NvrtcApi.nvrtcVersion(out int major, out int minor), "nvrtcVersion");
            Version = new(major, minor);
        }
        catch (DllNotFoundException exception)
        {
            throw new CudaException($"no NVRTC on this machine: {exception.Message}", exception);
        }

        Architecture = ArchitectureOf(computeCapability, Version);
    }

    /// <summary>The compiler's version.</summary>
    public Version Version { get; }

    /// <summary>Target, such as <c>sm_90a</c>.</summary>
    public string Architecture { get; }

    /// <summary>Compiler and version, for cache keys and reports.</summary>
    public string Name => $"nvrtc {Version}";

    /// <summary>All options of a source, in order.</summary>
    /// <remarks>
    /// Products and sums are not contracted by the compiler unless the source asks for it (<c>--fmad=true</c>): where a
    /// kernel means a fused multiply-add it says so, and the bits do not depend on the compiler's mood.
    /// </remarks>
    public IReadOnlyList<string> OptionsFor(KernelSource source) =>
    [
        $"--gpu-architecture={Architecture}", "--std=c++17",
        .. source.Options.Any(option => option.StartsWith(Contraction, StringComparison.Ordinal))
            ? (string[])[]
            : [$"{Contraction}=false"],
        .. source.Options,
    ];

    /// <summary>Compiles to a CUBIN.</summary>
    /// <exception cref="KernelCompilationException">The source is wrong.</exception>
    /// <exception cref="CudaException">The compiler fails otherwise.</exception>
    public byte[] Compile(KernelSource source)
    {
        _room.Wait();
        try
        {
            return CompileNow(source);
        }
        finally
        {
            _ = _room.Release();
        }
    }

    private byte[] CompileNow(KernelSource source)
    {
        using var texts = new NativeStrings([source.Text, source.Name]);
        using var headers = new NativeStrings(source.Headers.Values);
        using var names = new NativeStrings(source.Headers.Keys);
        using var options = new NativeStrings(OptionsFor(source));
        Check(
            NvrtcApi.nvrtcCreateProgram(
                out nint program, texts.Pointer[0], texts.Pointer[1], headers.Count, headers.Pointer, names.Pointer),
            "nvrtcCreateProgram", source.Name);
        try
        {
            int code = NvrtcApi.nvrtcCompileProgram(program, options.Count, options.Pointer);
            if (code == NvrtcApi.CompilationFailed)
            {
                throw new KernelCompilationException(source, Architecture, Log(program));
            }

            Check(code, "nvrtcCompileProgram", $"{source.Name}: {string.Join(' ', OptionsFor(source))}");
            Check(NvrtcApi.nvrtcGetCUBINSize(program, out nuint bytes), "nvrtcGetCUBINSize", source.Name);
            byte[] cubin = new byte[bytes];
            fixed (byte* pointer = cubin)
            {
                Check(NvrtcApi.nvrtcGetCUBIN(program, pointer), "nvrtcGetCUBIN", source.Name);
            }

            return cubin;
        }
        finally
        {
            _ = NvrtcApi.nvrtcDestroyProgram(ref program);
        }
    }

    /// <summary>The target of a device: from 9.0 on with the instructions of that generation alone ("a").</summary>
    /// <param name="computeCapability">Of the device.</param>
    /// <param name="compiler">Version of NVRTC; those before 12 know no such targets.</param>
    internal static string ArchitectureOf(Version computeCapability, Version compiler) =>
        $"sm_{computeCapability.Major}{computeCapability.Minor}"
        + (computeCapability.Major >= 9 && compiler.Major >= 12 ? "a" : "");

    private static string Log(nint program)
    {
        if (NvrtcApi.nvrtcGetProgramLogSize(program, out nuint bytes) != NvrtcApi.Success || bytes <= 1)
        {
            return "(the compiler left no log)";
        }

        byte[] log = new byte[bytes];
        fixed (byte* pointer = log)
        {
            _ = NvrtcApi.nvrtcGetProgramLog(program, pointer);
        }

        return Encoding.UTF8.GetString(log.AsSpan(0, log.Length - 1));
    }

    private static void Check(int code, string call, string detail = "")
    {
        if (code != NvrtcApi.Success)
        {
            string name = Marshal.PtrToStringUTF8((nint)NvrtcApi.nvrtcGetErrorString(code)) ?? "unknown error";
            throw new CudaException(call, code, name, detail);
        }
    }
}
