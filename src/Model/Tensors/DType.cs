namespace Krewe.Model.Tensors;

/// <summary>Element type of a <see cref="Tensor"/> or of a stored checkpoint tensor.</summary>
public enum DType : byte
{
    /// <summary>IEEE 754 binary32, 4 bytes.</summary>
    Float32,

    /// <summary>bfloat16: the upper half of a binary32, 2 bytes.</summary>
    BFloat16,

    /// <summary>IEEE 754 binary16, 2 bytes.</summary>
    Float16,

    /// <summary>FP8 E4M3 (no infinities, largest value 448), 1 byte.</summary>
    Float8E4M3,

    /// <summary>FP8 E5M2 (largest finite value 57344), 1 byte.</summary>
    Float8E5M2,

    /// <summary>Signed 32-bit integer, 4 bytes.</summary>
    Int32,

    /// <summary>Signed 64-bit integer, 8 bytes.</summary>
    Int64,

    /// <summary>Unsigned byte, 1 byte.</summary>
    UInt8,

    /// <summary>E5M6, the upper 12 bits of a binary16 (largest finite value 65024), kept in 2 bytes.</summary>
    Float12E5M6,
}

/// <summary>Sizes of <see cref="DType"/> values.</summary>
public static class DTypes
{
    /// <summary>Bytes of one element.</summary>
    public static int SizeInBytes(this DType dtype) => dtype switch
    {
        DType.Float32 or DType.Int32 => 4,
        DType.BFloat16 or DType.Float16 or DType.Float12E5M6 => 2,
        DType.Float8E4M3 or DType.Float8E5M2 or DType.UInt8 => 1,
        DType.Int64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "unknown element type"),
    };
}
