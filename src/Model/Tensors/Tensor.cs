using System.Runtime.CompilerServices;

namespace Krewe.Model.Tensors;

/// <summary>
/// A view of device memory: address, shape, row stride and element type. It owns nothing: the memory belongs to the
/// <see cref="Arena"/> it was taken from and must not be touched after that arena was reset or disposed.
/// </summary>
/// <remarks>
/// Row-major; the last dimension is contiguous, rows lie <see cref="RowStride"/> elements apart. A tensor knows whether
/// the host can reach it: what would read or write another device's memory throws instead.
/// </remarks>
public readonly unsafe struct Tensor
{
    /// <summary>A view of <paramref name="shape"/> at <paramref name="address"/>.</summary>
    /// <param name="address">Device address of the first element.</param>
    /// <param name="shape">Extent.</param>
    /// <param name="dtype">Element type.</param>
    /// <param name="rowStride">Elements from one row to the next; 0 for dense rows.</param>
    /// <param name="onHost">True where the host can read and write at the address.</param>
    public Tensor(nint address, TensorShape shape, DType dtype = DType.Float32, int rowStride = 0, bool onHost = true)
    {
        Address = address;
        Shape = shape;
        DType = dtype;
        OnHost = onHost;
        RowStride = rowStride == 0 ? shape.Columns : rowStride;
    }

    /// <summary>Device address of the first element; 0 for the empty default.</summary>
    public nint Address { get; }

    /// <summary>Extent.</summary>
    public TensorShape Shape { get; }

    /// <summary>Element type.</summary>
    public DType DType { get; }

    /// <summary>True where the host can read and write the memory.</summary>
    public bool OnHost { get; }

    /// <summary>Elements from one row to the next.</summary>
    public int RowStride { get; }

    /// <summary>Number of rows: product of all extents but the last.</summary>
    public int Rows => Shape.Rows;

    /// <summary>The last extent.</summary>
    public int Columns => Shape.Columns;

    /// <summary>Number of elements.</summary>
    public long Count => Shape.Count;

    /// <summary>True where nothing was allocated.</summary>
    public bool IsEmpty => Address == 0;

    /// <summary>True where the rows follow each other without a gap.</summary>
    public bool IsDense => RowStride == Columns;

    /// <summary>Size of the elements, without gaps between rows.</summary>
    public long Bytes => Count * DType.SizeInBytes();

    /// <summary>Address of the first element, for the host.</summary>
    /// <exception cref="InvalidOperationException">The host cannot reach it.</exception>
    public nint HostAddress => OnHost || Address == 0 ? Address : throw NotOnHost();

    /// <summary>The first element as a pointer, unchecked: for kernels that run where the memory is.</summary>
    public float* Floats => (float*)Address;

    /// <summary>The first element as a pointer to 32-bit integers, unchecked as <see cref="Floats"/>.</summary>
    public int* Ints => (int*)Address;

    /// <summary>
    /// Rows [<paramref name="start"/>, <paramref name="start"/> + <paramref name="count"/>), as [count, columns].
    /// </summary>
    public Tensor SliceRows(int start, int count)
    {
        if ((uint)start > (uint)Rows || (uint)count > (uint)(Rows - start))
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"rows {start}..{start + count} of a tensor of {Rows}");
        }

        return new(Address + ((nint)start * RowStride * DType.SizeInBytes()), new(count, Columns), DType, RowStride, OnHost);
    }

    /// <summary>
    /// Columns [<paramref name="start"/>, <paramref name="start"/> + <paramref name="count"/>) of every row.
    /// </summary>
    public Tensor SliceColumns(int start, int count)
    {
        if ((uint)start > (uint)Columns || (uint)count > (uint)(Columns - start))
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"columns {start}..{start + count} of a tensor of {Columns}");
        }

        return new(Address + ((nint)start * DType.SizeInBytes()), new(Rows, count), DType, RowStride, OnHost);
    }

    /// <summary>The same dense memory under another shape.</summary>
    public Tensor Reshape(TensorShape shape)
    {
        if (!IsDense || shape.Count != Count)
        {
            throw new ArgumentException($"cannot view {Shape} (row stride {RowStride}) as {shape}");
        }

        return new(Address, shape, DType, onHost: OnHost);
    }

    /// <summary>
    /// Elements [<paramref name="start"/>, <paramref name="start"/> + <paramref name="count"/>) of a dense tensor, as a
    /// vector.
    /// </summary>
    public Tensor SliceElements(long start, int count)
    {
        if (!IsDense || (ulong)start > (ulong)Count || (ulong)count > (ulong)(Count - start))
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"elements {start}..{start + count} of {this}");
        }

        return new(Address + (nint)(start * DType.SizeInBytes()), new(count), DType, onHost: OnHost);
    }

    /// <summary>The elements of a dense tensor in host memory.</summary>
    /// <exception cref="InvalidOperationException">The rows have gaps, <typeparamref name="T"/> has another size, or the
    /// host cannot reach the memory.</exception>
    public Span<T> AsSpan<T>() where T : unmanaged
    {
        if (Address == 0)
        {
            return default;
        }

        if ((!IsDense && Rows > 1) || Unsafe.SizeOf<T>() != DType.SizeInBytes())
        {
            throw new InvalidOperationException($"{this} is not a dense tensor of {typeof(T).Name}");
        }

        return new((void*)HostAddress, checked((int)Count));
    }

    /// <summary>Row <paramref name="row"/> in host memory.</summary>
    /// <exception cref="InvalidOperationException">The host cannot reach it.</exception>
    public Span<float> Row(int row) => new((float*)HostAddress + ((nint)row * RowStride), Columns);

    /// <inheritdoc/>
    public override string ToString() => $"{DType}{Shape}";

    private InvalidOperationException NotOnHost() =>
        new($"{this} lies in a device's memory, where the host cannot reach it: IKernels.Read and Transfer bring its values");
}
