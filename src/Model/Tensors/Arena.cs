namespace Krewe.Model.Tensors;

/// <summary>
/// Device memory with one life: parameters, optimizer state, the activations of one micro-batch. Tensors are carved off
/// the front; <see cref="Reset"/> takes all of them back in one call and keeps the blocks for the next use.
/// </summary>
/// <remarks>
/// Not thread-safe: one owner at a time. A tensor taken from it dies with <see cref="Reset"/> or Dispose.
/// </remarks>
public abstract class Arena : IDisposable
{
    /// <summary>Bytes of the blocks this arena holds, whether in use or kept for reuse.</summary>
    public abstract long ReservedBytes { get; }

    /// <summary>Bytes handed out since the last <see cref="Reset"/>.</summary>
    public abstract long UsedBytes { get; }

    /// <summary>Takes an uninitialised tensor, aligned to 64 bytes.</summary>
    /// <exception cref="KreweException">The device cannot give another block; the message says how much.</exception>
    public abstract Tensor Allocate(TensorShape shape, DType dtype = DType.Float32);

    /// <summary>Takes an uninitialised [d0] tensor.</summary>
    public Tensor Allocate(int d0, DType dtype = DType.Float32) => Allocate(new TensorShape(d0), dtype);

    /// <summary>Takes an uninitialised [d0, d1] tensor.</summary>
    public Tensor Allocate(int d0, int d1, DType dtype = DType.Float32) => Allocate(new TensorShape(d0, d1), dtype);

    /// <summary>Takes back every tensor at once; their memory will be handed out again.</summary>
    public abstract void Reset();

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the blocks.</summary>
    protected abstract void Dispose(bool disposing);
}
