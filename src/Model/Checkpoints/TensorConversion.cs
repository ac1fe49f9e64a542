using System.Runtime.InteropServices;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>Stored elements to float32 and back. The byte side is little-endian and may lie at any address.</summary>
internal static class TensorConversion
{
    internal static void ToFloat32(DType dtype, ReadOnlySpan<byte> source, Span<float> destination)
    {
        switch (dtype)
        {
            case DType.Float32:
                source.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case DType.BFloat16:
                BFloat16Format.Decode(MemoryMarshal.Cast<byte, ushort>(source), destination);
                break;
            case DType.Float16:
                ReadOnlySpan<Half> halves = MemoryMarshal.Cast<byte, Half>(source);
                for (int i = 0; i < halves.Length; i++)
                {
                    destination[i] = (float)halves[i];
                }

                break;
            case DType.Float8E4M3:
                Float8Format.Decode(source, destination, Float8Format.E4M3Table);
                break;
            case DType.Float8E5M2:
                Float8Format.Decode(source, destination, Float8Format.E5M2Table);
                break;
            default:
                throw new KreweException($"{dtype} elements are no weights; a floating type is wanted");
        }
    }

    internal static void FromFloat32(DType dtype, ReadOnlySpan<float> source, Span<byte> destination)
    {
        switch (dtype)
        {
            case DType.Float32:
                MemoryMarshal.AsBytes(source).CopyTo(destination);
                break;
            case DType.BFloat16:
                BFloat16Format.Encode(source, MemoryMarshal.Cast<byte, ushort>(destination));
                break;
            default:
                throw new ArgumentException($"cannot write plain weights as {dtype}");
        }
    }
}
