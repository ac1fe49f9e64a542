using System.Runtime.InteropServices;
using Krewe.Gpu.Driver.Native;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>
/// output[M, N] = input[M, D] weight[N, D]^T by cuBLASLt, prepared for one set of shapes: the yardstick of our own
/// kernels. Sums are float32; their order is the library's.
/// </summary>
public sealed unsafe class CublasLtProduct : IDisposable
{
    private const long MaxWorkspaceBytes = 32L << 20;
    private const int Float32 = 0;
    private readonly nint[] _layouts = new nint[3];
    private readonly CublasLtHeuristic _choice;
    private readonly CudaDeviceVariable<byte>? _workspace;
    private nint _handle;
    private nint _description;

    /// <summary>Asks the library for its fastest product of these shapes.</summary>
    /// <param name="input">[M, D]; float32, bfloat16 or FP8.</param>
    /// <param name="weight">[N, D], of the input's type.</param>
    /// <param name="output">[M, N]; float32 or bfloat16.</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    /// <exception cref="CudaException">No cuBLASLt, or it has no such product.</exception>
    public CublasLtProduct(Tensor input, Tensor weight, Tensor output)
    {
        if (input.Columns != weight.Columns || output.Rows != input.Rows || output.Columns != weight.Rows)
        {
            throw new ArgumentException($"product: expected [M, D] [N, D]^T = [M, N], got {input} {weight} {output}");
        }

        try
        {
            Check(CublasLtApi.cublasLtCreate(out _handle), "cublasLtCreate");
        }
        catch (DllNotFoundException exception)
        {
            throw new CudaException($"no cuBLASLt on this machine: {exception.Message}", exception);
        }

        // The library's matrices stand in columns: ours are their transposes, hence output^T = weight input^T.
        Check(
            CublasLtApi.cublasLtMatmulDescCreate(out _description, CublasLtApi.ComputeFloat32, Float32),
            "cublasLtMatmulDescCreate");
        int transpose = 1;
        Check(
            CublasLtApi.cublasLtMatmulDescSetAttribute(
                _description, CublasLtApi.DescriptionTransposeA, &transpose, sizeof(int)),
            "cublasLtMatmulDescSetAttribute");
        _layouts[0] = Layout(weight);
        _layouts[1] = Layout(input);
        _layouts[2] = Layout(output);
        _choice = Choose($"{input} {weight} {output}");
        _workspace = _choice.WorkspaceBytes > 0 ? new((long)_choice.WorkspaceBytes) : null;
    }

    /// <summary>The library's version, such as 130000.</summary>
    public static long LibraryVersion => (long)CublasLtApi.cublasLtGetVersion();

    /// <summary>Multiplies tensors of the shapes and strides it was made for.</summary>
    public void Run(CudaStream stream, Tensor input, Tensor weight, Tensor output)
    {
        float one = 1;
        float zero = 0;
        CublasLtAlgorithm algorithm = _choice.Algorithm;
        Check(
            CublasLtApi.cublasLtMatmul(
                _handle, _description, &one, weight.Address, _layouts[0], input.Address, _layouts[1], &zero,
                output.Address, _layouts[2], output.Address, _layouts[2], &algorithm, _workspace?.Address ?? 0,
                _choice.WorkspaceBytes, stream.Handle),
            "cublasLtMatmul", $"{input} {weight} {output}");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle == 0)
        {
            return;
        }

        _workspace?.Dispose();
        foreach (nint layout in _layouts)
        {
            _ = CublasLtApi.cublasLtMatrixLayoutDestroy(layout);
        }

        _ = CublasLtApi.cublasLtMatmulDescDestroy(_description);
        _ = CublasLtApi.cublasLtDestroy(_handle);
        _handle = 0;
    }

    private CublasLtHeuristic Choose(string shapes)
    {
        Check(CublasLtApi.cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
        nuint workspace = (nuint)MaxWorkspaceBytes;
        CublasLtHeuristic choice = default;
        int code = CublasLtApi.cublasLtMatmulPreferenceSetAttribute(
            preference, CublasLtApi.PreferenceMaxWorkspaceBytes, &workspace, (nuint)sizeof(nuint));
        int found = 0;
        if (code == CublasLtApi.Success)
        {
            code = CublasLtApi.cublasLtMatmulAlgoGetHeuristic(
                _handle, _description, _layouts[0], _layouts[1], _layouts[2], _layouts[2], preference, 1, &choice,
                out found);
        }

        _ = CublasLtApi.cublasLtMatmulPreferenceDestroy(preference);
        Check(code, "cublasLtMatmulAlgoGetHeuristic", shapes);
        return found > 0 ? choice : throw new CudaException($"cuBLASLt has no product of {shapes}");
    }

    private static nint Layout(Tensor tensor)
    {
        int type = tensor.DType switch
        {
            DType.Float32 => Float32,
            DType.Float16 => 2,
            DType.BFloat16 => 14,
            DType.Float8E4M3 => 28,
            DType.Float8E5M2 => 29,
            _ => throw new ArgumentException($"product: expected a floating-point type, got {tensor}", nameof(tensor)),
        };
        Check(
            CublasLtApi.cublasLtMatrixLayoutCreate(
                out nint layout, type, (ulong)tensor.Columns, (ulong)tensor.Rows, tensor.RowStride),
            "cublasLtMatrixLayoutCreate");
        return layout;
    }

    private static void Check(int code, string call, string detail = "")
    {
        if (code != CublasLtApi.Success)
        {
            string name = Marshal.PtrToStringUTF8((nint)CublasLtApi.cublasLtGetStatusName(code)) ?? "unknown error";
            throw new CudaException(call, code, name, detail);
        }
    }
}
