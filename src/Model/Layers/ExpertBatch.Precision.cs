using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>What a precision recipe keeps of inputs, travelling rows and cached activations.</content>
public sealed partial class ExpertBatch
{
    /// <summary>
    /// The inputs of both layers as the weight gradients read them: turned along each expert's own tokens, the activation
    /// computed anew from what was cached.
    /// </summary>
    private void SaveInputs(IKernels kernels)
    {
        ProductPrecision precision = _recipe.Experts;
        if (_saved.Length < _experts.Length)
        {
            _saved = new SavedOperands[_experts.Length];
        }

        if (_recipe.SwiGluCache is { } format)
        {
            Operand.RoundToTiles(kernels, _arena, _gate, format);
            Operand.RoundToTiles(kernels, _arena, _up, format);
            kernels.SwiGlu(_gate, _up, _hidden);
            _hiddenRows = precision.IsTiled ? new(_hidden) : Operand.Input(kernels, _arena, _hidden, precision);
        }

        Tensor cached = precision.IsTiled ? _input.CachedValues(kernels, _arena, precision) : default;
        for (int i = 0; i < _experts.Length; i++)
        {
            _saved[i].Hidden = PartOf(_hiddenRows, i).ForWeightGradient(kernels, _arena, precision);
            _saved[i].Input = precision.IsTiled
                ? _input with { Columns = Operand.Turned(kernels, _arena, cached, RowsOf(i), precision) }
                : _input;
        }
    }

    /// <summary>Gradient rows as they travelled.</summary>
    private Tensor Dispatched(IKernels kernels, Tensor gradRows)
    {
        if (_recipe.Dispatch is not { } format)
        {
            return gradRows;
        }

        Tensor rounded = _arena.Allocate(gradRows.Rows, gradRows.Columns);
        Operand.RoundToTiles(kernels, _arena, gradRows, rounded, format);
        return rounded;
    }

    /// <summary>Rows that travel back, one by one or in sums, have the precision of the combine.</summary>
    private void RoundCombined(IKernels kernels, Tensor rows)
    {
        if (_recipe.Combine == DType.BFloat16)
        {
            kernels.RoundToBFloat16(rows, rows);
        }
    }
}
