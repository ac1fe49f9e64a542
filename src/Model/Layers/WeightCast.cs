using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// A weight as the products of its precision read it: rounded to bfloat16, or quantised in tiles for the forward and,
/// turned, for the data gradient. Made from the float32 master when it is first asked for, and from then on with the
/// optimizer's step, together with the other weights; or from values that are not kept (<see cref="Take"/>). On the device's
/// thread.
/// </summary>
/// <param name="weight">[N, D], the master.</param>
/// <param name="parameters">The set that the weight is of: it knows when the masters have moved.</param>
/// <param name="arena">Where the casts live.</param>
/// <param name="precision">BFloat16 or tiles.</param>
/// <param name="absorbed">True where attention also takes the weight in its absorbed form.</param>
internal sealed class WeightCast(
    Parameter weight, ParameterSet parameters, Arena arena, ProductPrecision precision, bool absorbed)
{
    private Tensor _values, _floats;
    private QuantizedTensor _rows, _columns;
    private int _valuesVersion = -1, _floatsVersion = -1, _rowsVersion = -1, _columnsVersion = -1;

    /// <summary>Makes all that the forward reads from values that will be gone.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="master">[N, D] float32.</param>
    public void Take(IKernels kernels, Tensor master)
    {
        if (precision.IsTiled)
        {
            Quantize(kernels, master);
        }
        else if (kernels.BFloat16Storage != DType.Float32)
        {
            Round(kernels, master);
        }

        if (absorbed || (!precision.IsTiled && kernels.BFloat16Storage == DType.Float32))
        {
            Widen(kernels, master);
        }
    }

    /// <summary>[N, D] rounded to bfloat16 and kept in what the backend's products read.</summary>
    public Tensor Values(IKernels kernels)
    {
        if (kernels.BFloat16Storage == DType.Float32)
        {
            return Floats(kernels);
        }

        if (weight.HasMaster && IsStale(ref _valuesVersion))
        {
            Round(kernels, weight.Value);
        }

        return _values;
    }

    /// <summary>
    /// [N, D] rounded to bfloat16 (of tiles, their values) as float32: what attention in its absorbed form takes.
    /// </summary>
    public Tensor Floats(IKernels kernels)
    {
        if (weight.HasMaster && IsStale(ref _floatsVersion))
        {
            if (precision.IsTiled)
            {
                _ = Rows(kernels);
            }

            Widen(kernels, weight.Value);
        }

        return _floats;
    }

    /// <summary>[N, D] in tiles, for the forward.</summary>
    public QuantizedTensor Rows(IKernels kernels)
    {
        if (weight.HasMaster && IsStale(ref _rowsVersion))
        {
            Quantize(kernels, weight.Value);
        }

        return _rows;
    }

    /// <summary>[D, N] in tiles, for the data gradient.</summary>
    public QuantizedTensor Columns(IKernels kernels)
    {
        if (IsStale(ref _columnsVersion))
        {
            _columns = _columns.IsEmpty ? Allocate(weight.Shape.D1, weight.Shape.D0) : _columns;
            kernels.Quantize(weight.Value, default, default, _columns);
        }

        return _columns;
    }

    private void Quantize(IKernels kernels, Tensor master)
    {
        _rows = _rows.IsEmpty ? Allocate(weight.Shape.D0, weight.Shape.D1) : _rows;
        kernels.Quantize(master, default, _rows, default);
    }

    private void Round(IKernels kernels, Tensor master)
    {
        _values = _values.IsEmpty ? arena.Allocate(weight.Shape, kernels.BFloat16Storage) : _values;
        kernels.RoundToBFloat16(master, _values);
    }

    private void Widen(IKernels kernels, Tensor master)
    {
        _floats = _floats.IsEmpty ? arena.Allocate(weight.Shape) : _floats;
        if (precision.IsTiled)
        {
            kernels.Dequantize(_rows, _floats);
            master = _floats;
        }

        kernels.RoundToBFloat16(master, _floats);
    }

    /// <summary>
    /// Where the optimizer may leave the weight rounded to bfloat16, as <see cref="Values"/> keeps it; empty until that was
    /// asked for.
    /// </summary>
    public Tensor Rounded => _values;

    /// <summary>
    /// The optimizer has changed the weight and filled <see cref="Rounded"/>: that is up to date, and tiles that were in
    /// use are asked for, the caller's to fill.
    /// </summary>
    /// <param name="tiles">Added to.</param>
    public void Follow(List<QuantizedCopies> tiles)
    {
        if (!_values.IsEmpty)
        {
            _valuesVersion = parameters.Version;
        }

        if (!_rows.IsEmpty || !_columns.IsEmpty)
        {
            tiles.Add(new(weight.Value, _rows, _columns));
            _rowsVersion = _rows.IsEmpty ? _rowsVersion : parameters.Version;
            _columnsVersion = _columns.IsEmpty ? _columnsVersion : parameters.Version;
        }
    }

    private QuantizedTensor Allocate(int rows, int columns) =>
        QuantizedTensor.Allocate(arena, rows, columns, precision.Weight);

    private bool IsStale(ref int version)
    {
        bool stale = version != parameters.Version;
        version = parameters.Version;
        return stale;
    }
}
