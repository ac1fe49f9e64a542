using Krewe.Gpu.Driver.Native;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Dense matrix products of cuBLASLt: float32 sums in the library's order, which is the same one for the same shapes,
/// strides and library. Its choice for a shape is asked for once and kept.
/// </summary>
/// <remarks>One workspace: to be used from one thread, and on one stream, at a time.</remarks>
public sealed unsafe class CublasLt : IDisposable
{
    /// <summary>What the library's documentation recommends for Hopper.</summary>
    private const long WorkspaceBytes = 32L << 20;

    /// <summary>Choices that are kept; generation meets a new number of rows with each new prompt.</summary>
    private const int MaxChoices = 4096;

    private readonly Dictionary<CublasLtShape, CublasLtProduct> _products = [];
    private readonly CudaDeviceVariable<byte> _workspace;
    private nint _handle;

    /// <summary>Opens the library for the current context.</summary>
    /// <exception cref="CudaException">No cuBLASLt, or it does not start.</exception>
    public CublasLt()
    {
        try
        {
            CublasLtProduct.Check(CublasLtApi.cublasLtCreate(out _handle), "cublasLtCreate");
        }
        catch (DllNotFoundException exception)
        {
            throw new CudaException($"no cuBLASLt on this machine: {exception.Message}", exception);
        }

        try
        {
            _workspace = new(WorkspaceBytes, "workspace of cuBLASLt");
        }
        catch (CudaException)
        {
            _ = CublasLtApi.cublasLtDestroy(_handle);
            throw;
        }
    }

    /// <summary>The library's version, such as 130000.</summary>
    public static long LibraryVersion => (long)CublasLtApi.cublasLtGetVersion();

    /// <summary>output[M, N] = left[M, K] right[N, K]^T, or added to it.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="left">[M, K], or [K, M] across K; float32, bfloat16 or FP8, 16-byte aligned with its rows.</param>
    /// <param name="leftAcross">The left operand is stored with K as its rows.</param>
    /// <param name="right">[N, K], or [K, N] across K; of the left operand's type, aligned as it is.</param>
    /// <param name="rightAcross">The right operand is stored with K as its rows.</param>
    /// <param name="output">[M, N]; float32 or bfloat16, aligned alike.</param>
    /// <param name="accumulate">Adds to the output.</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    /// <exception cref="CudaException">The library has no such product.</exception>
    public void Multiply(
        CudaStream stream, Tensor left, bool leftAcross, Tensor right, bool rightAcross, Tensor output,
        bool accumulate = false)
    {
        CublasLtShape shape = new(left, leftAcross, right, rightAcross, output);
        if (!_products.TryGetValue(shape, out CublasLtProduct? product))
        {
            if (_products.Count == MaxChoices)
            {
                Forget();
            }

            product = new(_handle, shape, WorkspaceBytes);
            _products.Add(shape, product);
        }

        product.Run(
            stream, left.Address, right.Address, output.Address, accumulate, _workspace.Address, WorkspaceBytes);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle == 0)
        {
            return;
        }

        Forget();
        _workspace.Dispose();
        _ = CublasLtApi.cublasLtDestroy(_handle);
        _handle = 0;
    }

    private void Forget()
    {
        foreach (CublasLtProduct product in _products.Values)
        {
            product.Dispose();
        }

        _products.Clear();
    }
}
