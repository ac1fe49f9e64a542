using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>One tensor of a safetensors file.</summary>
/// <param name="Name">Unique in the file.</param>
/// <param name="StoredType">Element type as the file names it, such as <c>BF16</c> or <c>I64</c>.</param>
/// <param name="Dimensions">Extents; empty for a scalar.</param>
/// <param name="Offset">Bytes from the start of the file.</param>
/// <param name="ByteCount">Bytes of the data.</param>
public sealed record SafetensorsTensor(
    string Name, string StoredType, IReadOnlyList<long> Dimensions, long Offset, long ByteCount)
{
    /// <summary>Number of elements; 1 for a scalar.</summary>
    public long Count => ByteCount / SafetensorsTypes.SizeInBytes(StoredType);

    /// <summary>Element type, where Krewe computes with it.</summary>
    /// <exception cref="KreweException">A valid type that Krewe has no use for, such as <c>BOOL</c>.</exception>
    public DType DType => SafetensorsTypes.ToDType(StoredType)
        ?? throw new KreweException($"tensor '{Name}' holds {StoredType}, a type that Krewe does not compute with");

    /// <summary>The extents; a scalar counts as [1].</summary>
    /// <exception cref="KreweException">More than three dimensions, or an extent past 2^31.</exception>
    public TensorShape Shape
    {
        get
        {
            long[] extents = Dimensions.Count == 0 ? [1] : [.. Dimensions];
            return extents.Length > 3 || extents.Any(extent => extent > int.MaxValue)
                ? throw new KreweException($"tensor '{Name}' of shape {ShapeText} is too large for Krewe")
                : TensorShape.Of(extents);
        }
    }

    /// <summary>The extents for messages.</summary>
    public string ShapeText => $"[{string.Join(", ", Dimensions)}]";
}

/// <summary>Element types of the safetensors format.</summary>
internal static class SafetensorsTypes
{
    private static readonly Dictionary<string, (int Bytes, DType? DType)> _known = new(StringComparer.Ordinal)
    {
        ["F32"] = (4, DType.Float32),
        ["BF16"] = (2, DType.BFloat16),
        ["F16"] = (2, DType.Float16),
        ["F8_E4M3"] = (1, DType.Float8E4M3),
        ["F8_E5M2"] = (1, DType.Float8E5M2),
        ["I32"] = (4, DType.Int32),
        ["I64"] = (8, DType.Int64),
        ["U8"] = (1, DType.UInt8),
        ["F8_E8M0"] = (1, null),
        ["BOOL"] = (1, null),
        ["I8"] = (1, null),
        ["I16"] = (2, null),
        ["U16"] = (2, null),
        ["U32"] = (4, null),
        ["F64"] = (8, null),
        ["U64"] = (8, null),
    };

    internal static bool IsKnown(string name) => _known.ContainsKey(name);

    internal static int SizeInBytes(string name) => _known[name].Bytes;

    internal static DType? ToDType(string name) => _known[name].DType;

    internal static string NameOf(DType dtype) => _known.First(pair => pair.Value.DType == dtype).Key;
}
