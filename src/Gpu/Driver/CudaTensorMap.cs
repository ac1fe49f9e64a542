using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Krewe.Gpu.Driver.Native;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>
/// How a tile's rows lie in shared memory: which bits of the address are mixed, against bank conflicts.
/// </summary>
public enum TensorMapSwizzle
{
    /// <summary>Row behind row.</summary>
    None,

    /// <summary>16-byte pieces of a 32-byte span.</summary>
    Bytes32,

    /// <summary>16-byte pieces of a 64-byte span.</summary>
    Bytes64,

    /// <summary>16-byte pieces of a 128-byte span: what the tensor cores read without conflicts.</summary>
    Bytes128,
}

/// <summary>
/// The description of a matrix by which a kernel's tiles are copied in bulk (tensor memory accelerator, compute
/// capability 9.0). Passed to a kernel by value, as a <c>const __grid_constant__</c> parameter of 128 bytes.
/// </summary>
/// <remarks>What lies outside the matrix is read as zero and not written.</remarks>
public readonly unsafe struct CudaTensorMap
{
    private const int MaxBox = 256;
    private readonly Opaque _words;

    /// <summary>Describes a matrix.</summary>
    /// <param name="matrix">[rows, columns] in device memory, 16-byte aligned, with rows a multiple of 16 bytes apart.
    /// </param>
    /// <param name="boxRows">Rows of a tile, 1 to 256.</param>
    /// <param name="boxColumns">Columns of a tile, 1 to 256; a multiple of 16 bytes, and of no more bytes than the
    /// swizzle spans.</param>
    /// <param name="swizzle">Layout of the tile in shared memory.</param>
    /// <exception cref="ArgumentException">The hardware cannot do that; the message says why.</exception>
    /// <exception cref="CudaException">The driver refuses.</exception>
    public CudaTensorMap(Tensor matrix, int boxRows, int boxColumns, TensorMapSwizzle swizzle = TensorMapSwizzle.None)
    {
        int size = matrix.DType.SizeInBytes();
        Check(matrix, boxRows, boxColumns, swizzle);
        ulong* dimensions = stackalloc ulong[] { (ulong)matrix.Columns, (ulong)matrix.Rows };
        ulong* strides = stackalloc ulong[] { (ulong)matrix.RowStride * (ulong)size };
        uint* box = stackalloc uint[] { (uint)boxColumns, (uint)boxRows };
        uint* steps = stackalloc uint[] { 1, 1 };

        // The driver wants its structure on a boundary of 64 bytes.
        byte* room = stackalloc byte[sizeof(Opaque) + 64];
        void* map = (void*)(((nint)room + 63) / 64 * 64);
        CudaResult.Check(DriverApi.cuTensorMapEncodeTiled(
            map, DataType(matrix.DType), 2, matrix.Address, dimensions, strides, box, steps,
            interleave: 0, (int)swizzle, promotion: 2, fill: 0));
        _words = Unsafe.ReadUnaligned<Opaque>(map);
    }

    /// <summary>Throws where the hardware has no such copy.</summary>
    internal static void Check(Tensor matrix, int boxRows, int boxColumns, TensorMapSwizzle swizzle)
    {
        int size = matrix.DType.SizeInBytes();
        Expect(matrix.Rows > 0 && matrix.Columns > 0, $"a matrix with elements, got {matrix}");
        Expect(matrix.Address % 16 == 0, $"an address that 16 divides, got 0x{matrix.Address:x}");
        Expect(
            matrix.RowStride * (long)size % 16 == 0,
            $"rows a multiple of 16 bytes apart, got {matrix} with row stride {matrix.RowStride}");
        Expect(
            boxRows is >= 1 and <= MaxBox && boxColumns is >= 1 and <= MaxBox,
            $"tiles of 1 to {MaxBox} rows and columns, got {boxRows}x{boxColumns}");
        Expect(boxColumns * size % 16 == 0, $"tile rows of a multiple of 16 bytes, got {boxColumns * size} bytes");
        int span = swizzle == TensorMapSwizzle.None ? int.MaxValue : 16 << (int)swizzle;
        Expect(boxColumns * size <= span, $"tile rows of at most {span} bytes for {swizzle}, got {boxColumns * size}");
        _ = DataType(matrix.DType);
    }

    /// <summary>CUtensorMapDataType; FP8 travels as bytes.</summary>
    private static int DataType(DType dtype) => dtype switch
    {
        DType.UInt8 or DType.Float8E4M3 or DType.Float8E5M2 => 0,
        DType.Int32 => 3,
        DType.Int64 => 5,
        DType.Float16 => 6,
        DType.Float32 => 7,
        DType.BFloat16 => 9,
        _ => throw new ArgumentException($"tensor map: expected a type of 1 to 8 bytes, got {dtype}", nameof(dtype)),
    };

    private static void Expect(bool holds, string what)
    {
        if (!holds)
        {
            throw new ArgumentException($"tensor map: expected {what}");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    [InlineArray(16)]
    private struct Opaque
    {
        private ulong _first;
    }
}
