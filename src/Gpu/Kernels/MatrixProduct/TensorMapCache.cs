using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>
/// Tensor maps by what they describe: the driver takes microseconds to write one, and weights and the arenas of
/// micro-batches lie where they lay the step before. A map has no life of its own: it is right for whatever tensor of
/// that shape lies at its address.
/// </summary>
internal sealed class TensorMapCache
{
    /// <summary>Some 3 MB; then it starts over.</summary>
    private const int MaxCount = 16_384;

    private readonly Dictionary<Key, CudaTensorMap> _maps = [];

    /// <summary>The map of a matrix; see <see cref="CudaTensorMap"/>.</summary>
    public CudaTensorMap Of(Tensor matrix, int boxRows, int boxColumns, TensorMapSwizzle swizzle)
    {
        var key = new Key(
            matrix.Address, matrix.Rows, matrix.Columns, matrix.RowStride, matrix.DType, boxRows, boxColumns, swizzle);
        if (_maps.TryGetValue(key, out CudaTensorMap map))
        {
            return map;
        }

        if (_maps.Count == MaxCount)
        {
            _maps.Clear();
        }

        map = new(matrix, boxRows, boxColumns, swizzle);
        _maps.Add(key, map);
        return map;
    }

    private readonly record struct Key(
        nint Address, int Rows, int Columns, int RowStride, DType DType, int BoxRows, int BoxColumns,
        TensorMapSwizzle Swizzle);
}
