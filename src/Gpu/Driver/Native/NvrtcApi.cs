using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver.Native;

/// <summary>The functions of NVRTC that Krewe calls. Source: NVRTC reference, version 12 and 13.</summary>
internal static unsafe partial class NvrtcApi
{
    private const string Library = CudaLibraries.NvrtcImport;

    /// <summary>NVRTC_SUCCESS.</summary>
    internal const int Success = 0;

    /// <summary>NVRTC_ERROR_COMPILATION: the log says what is wrong with the source.</summary>
    internal const int CompilationFailed = 6;

    [LibraryImport(Library)]
    internal static partial byte* nvrtcGetErrorString(int code);

    [LibraryImport(Library)]
    internal static partial int nvrtcVersion(out int major, out int minor);

    [LibraryImport(Library)]
    internal static partial int nvrtcCreateProgram(
        out nint program, byte* source, byte* name, int headerCount, byte** headers, byte** includeNames);

    [LibraryImport(Library)]
    internal static partial int nvrtcDestroyProgram(ref nint program);

    [LibraryImport(Library)]
    internal static partial int nvrtcCompileProgram(nint program, int optionCount, byte** options);

    [LibraryImport(Library)]
    internal static partial int nvrtcGetCUBINSize(nint program, out nuint bytes);

    [LibraryImport(Library)]
    internal static partial int nvrtcGetCUBIN(nint program, byte* code);

    [LibraryImport(Library)]
    internal static partial int nvrtcGetProgramLogSize(nint program, out nuint bytes);

    [LibraryImport(Library)]
    internal static partial int nvrtcGetProgramLog(nint program, byte* log);
}
