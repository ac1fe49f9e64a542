using System.Runtime.InteropServices;
using Krewe.Gpu.Driver.Native;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>The library's choice for one shape, and the descriptions that a call hands over.</summary>
internal sealed unsafe class CublasLtProduct : IDisposable
{
    private const int Float32 = 0;
    private const uint AlignmentBytes = 16;
    private readonly CublasLtShape _shape;
    private readonly nint[] _layouts = new nint[3];
    private readonly CublasLtHeuristic _choice;
    private nint _description;

    /// <summary>Asks the library for its fastest product of this shape.</summary>
    /// <exception cref="CudaException">It has none.</exception>
    public CublasLtProduct(nint handle, in CublasLtShape shape, long workspaceBytes)
    {
        Handle = handle;
        _shape = shape;

        // The library's matrices stand in columns: ours are their transposes, hence output^T = right left^T.
        Check(
            CublasLtApi.cublasLtMatmulDescCreate(out _description, CublasLtApi.ComputeFloat32, Float32),
            "cublasLtMatmulDescCreate");
        Transpose(CublasLtApi.DescriptionTransposeA, !shape.Right.Across);
        Transpose(CublasLtApi.DescriptionTransposeB, shape.Left.Across);
        _layouts[0] = Layout(shape.Right);
        _layouts[1] = Layout(shape.Left);
        _layouts[2] = Layout(shape.Output);
        _choice = Choose(workspaceBytes);
    }

    private nint Handle { get; }

    /// <summary>Throws what a code of the library means.</summary>
    public static void Check(int code, string call, string detail = "")
    {
        if (code != CublasLtApi.Success)
        {
            string name = Marshal.PtrToStringUTF8((nint)CublasLtApi.cublasLtGetStatusName(code)) ?? "unknown error";
            throw new CudaException(call, code, name, detail);
        }
    }

    /// <summary>Multiplies matrices of the shape it was made for, by their addresses.</summary>
    public void Run(
        CudaStream stream, nint left, nint right, nint output, bool accumulate, nint workspace, long workspaceBytes)
    {
        float one = 1;
        float old = accumulate ? 1 : 0;
        CublasLtAlgorithm algorithm = _choice.Algorithm;
        int code = CublasLtApi.cublasLtMatmul(
            Handle, _description, &one, right, _layouts[0], left, _layouts[1], &old, output, _layouts[2], output,
            _layouts[2], &algorithm, workspace, (nuint)workspaceBytes, stream.Handle);
        if (code != CublasLtApi.Success)
        {
            Check(code, "cublasLtMatmul", $"{_shape}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_description == 0)
        {
            return;
        }

        foreach (nint layout in _layouts)
        {
            _ = CublasLtApi.cublasLtMatrixLayoutDestroy(layout);
        }

        _ = CublasLtApi.cublasLtMatmulDescDestroy(_description);
        _description = 0;
    }

    private static nint Layout(in CublasLtShape.Side matrix)
    {
        int type = matrix.DType switch
        {
            DType.Float32 => Float32,
            DType.Float16 => 2,
            DType.BFloat16 => 14,
            DType.Float8E4M3 => 28,
            DType.Float8E5M2 => 29,
            _ => throw new ArgumentException($"product: expected a floating-point type, got {matrix}", nameof(matrix)),
        };
        Check(
            CublasLtApi.cublasLtMatrixLayoutCreate(
                out nint layout, type, (ulong)matrix.StoredColumns, (ulong)matrix.StoredRows, matrix.RowStride),
            "cublasLtMatrixLayoutCreate");
        return layout;
    }

    private void Transpose(int attribute, bool transposed)
    {
        int value = transposed ? 1 : 0;
        Check(
            CublasLtApi.cublasLtMatmulDescSetAttribute(_description, attribute, &value, sizeof(int)),
            "cublasLtMatmulDescSetAttribute");
    }

    private CublasLtHeuristic Choose(long workspaceBytes)
    {
        Check(CublasLtApi.cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
        nuint workspace = (nuint)workspaceBytes;
        uint alignment = AlignmentBytes;
        CublasLtHeuristic choice = default;
        int code = CublasLtApi.cublasLtMatmulPreferenceSetAttribute(
            preference, CublasLtApi.PreferenceMaxWorkspaceBytes, &workspace, (nuint)sizeof(nuint));
        for (int matrix = 0; matrix < 4 && code == CublasLtApi.Success; matrix++)
        {
            code = CublasLtApi.cublasLtMatmulPreferenceSetAttribute(
                preference, CublasLtApi.PreferenceMinAlignmentA + matrix, &alignment, sizeof(uint));
        }

        int found = 0;
        if (code == CublasLtApi.Success)
        {
            code = CublasLtApi.cublasLtMatmulAlgoGetHeuristic(
                Handle, _description, _layouts[0], _layouts[1], _layouts[2], _layouts[2], preference, 1, &choice,
                out found);
        }

        _ = CublasLtApi.cublasLtMatmulPreferenceDestroy(preference);
        Check(code, "cublasLtMatmulAlgoGetHeuristic", $"{_shape}");
        return found > 0 ? choice : throw new CudaException($"cuBLASLt has no product of {_shape}");
    }
}
