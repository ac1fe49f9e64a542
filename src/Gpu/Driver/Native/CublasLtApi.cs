using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver.Native;

/// <summary>The functions of cuBLASLt that Krewe calls. Source: cuBLAS reference, version 12 and 13.</summary>
internal static unsafe partial class CublasLtApi
{
    private const string Library = CudaLibraries.CublasLtImport;

    /// <summary>CUBLAS_STATUS_SUCCESS.</summary>
    internal const int Success = 0;

    /// <summary>CUBLAS_COMPUTE_32F: float32 sums.</summary>
    internal const int ComputeFloat32 = 68;

    /// <summary>CUBLASLT_MATMUL_DESC_TRANSA.</summary>
    internal const int DescriptionTransposeA = 3;

    /// <summary>CUBLASLT_MATMUL_DESC_TRANSB.</summary>
    internal const int DescriptionTransposeB = 4;

    /// <summary>CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; those of B, C and D follow.</summary>
    internal const int PreferenceMinAlignmentA = 5;

    /// <summary>CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES.</summary>
    internal const int PreferenceMaxWorkspaceBytes = 1;

    [LibraryImport(Library)]
    internal static partial byte* cublasLtGetStatusName(int status);

    [LibraryImport(Library)]
    internal static partial nuint cublasLtGetVersion();

    [LibraryImport(Library)]
    internal static partial int cublasLtCreate(out nint handle);

    [LibraryImport(Library)]
    internal static partial int cublasLtDestroy(nint handle);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulDescCreate(out nint description, int computeType, int scaleType);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulDescDestroy(nint description);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulDescSetAttribute(
        nint description, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatrixLayoutCreate(
        out nint layout, int type, ulong rows, ulong columns, long leadingDimension);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatrixLayoutDestroy(nint layout);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulPreferenceCreate(out nint preference);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulPreferenceDestroy(nint preference);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulPreferenceSetAttribute(
        nint preference, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmulAlgoGetHeuristic(
        nint handle, nint description, nint a, nint b, nint c, nint d, nint preference, int requested,
        CublasLtHeuristic* results, out int returned);

    [LibraryImport(Library)]
    internal static partial int cublasLtMatmul(
        nint handle, nint description, void* alpha, nint a, nint layoutA, nint b, nint layoutB, void* beta, nint c,
        nint layoutC, nint d, nint layoutD, CublasLtAlgorithm* algorithm, nint workspace, nuint workspaceBytes,
        nint stream);
}

/// <summary>cublasLtMatmulAlgo_t.</summary>
[InlineArray(8)]
internal struct CublasLtAlgorithm
{
    private ulong _first;
}

/// <summary>cublasLtMatmulHeuristicResult_t.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CublasLtHeuristic
{
    public CublasLtAlgorithm Algorithm;
    public nuint WorkspaceBytes;
    public int State;
    public float Waves;
    private fixed int _reserved[4];
}
