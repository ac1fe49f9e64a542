using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>
/// The same work where the device has planned it: each expert's rows are a range that only the device knows, products read
/// it there, and the stage adds up what comes back. The bits of the host's plan.
/// </content>
public sealed partial class ExpertBatch
{
    private DispatchTable _table;
    private SavedOperands _all;

    private Tensor ForwardOnDevice(IKernels kernels, DeviceSlice own, int hidden, int width, bool copyInput)
    {
        int assignments = own.Table.Count;
        _table = copyInput ? Keep(kernels, own.Table) : own.Table;
        _gate = _arena.Allocate(assignments, width);
        _up = _arena.Allocate(assignments, width);
        _output = _arena.Allocate(assignments, hidden);
        for (int i = 0; i < _experts.Length; i++)
        {
            Tensor range = RangeOf(i);
            _products.AddForward(kernels, _experts[i].Gate, _input, _gate, _table.Rows, range);
            _products.AddForward(kernels, _experts[i].Up, _input, _up, _table.Rows, range);
        }

        _products.LaunchForward(kernels);
        _hiddenRows = ProducedOperand.SwiGlu(kernels, _arena, _gate, _up, _recipe.Experts);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddForward(kernels, _experts[i].Down, _hiddenRows, _output, range: RangeOf(i));
        }

        _products.LaunchForward(kernels);
        return own.Returned = _output;
    }

    private ExpertGradients BackwardOnDevice(IKernels kernels, DeviceSlice own)
    {
        int assignments = _table.Count;
        Tensor gradWeights = _arena.Allocate(own.Weights.Rows, own.Weights.Columns);
        Tensor gradHidden = _arena.Allocate(assignments, _gate.Columns);
        Tensor gradInput = _arena.Allocate(assignments, _output.Columns);
        bool makesTiles = ProducedOperand.MakesTiles(kernels, _recipe.SwiGluCache, _recipe.Experts);
        _all.GradOutput = OutputGradient(kernels, own, gradWeights, makesTiles);
        SaveInputsOnDevice(kernels, makesTiles);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardInput(kernels, _experts[i].Down, _all.GradOutput, gradHidden, range: RangeOf(i));
        }

        _products.LaunchBackwardInput(kernels);
        Differentiate(kernels, gradHidden, makesTiles);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardInput(kernels, _experts[i].Gate, _all.GradGate, gradInput, range: RangeOf(i));
        }

        _products.LaunchBackwardInput(kernels);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardInput(
                kernels, _experts[i].Up, _all.GradUp, gradInput, accumulate: true, range: RangeOf(i));
        }

        _products.LaunchBackwardInput(kernels);
        (own.Returned, own.ReturnedWeights) = (gradInput, gradWeights);
        return new(gradInput, gradWeights);
    }

    private void BackwardWeightOnDevice(IKernels kernels)
    {
        for (int i = 0; i < _experts.Length; i++)
        {
            (Tensor range, Tensor columns) = (RangeOf(i), _table.ColumnsOf(_experts[i].Index));
            _products.AddBackwardWeight(_experts[i].Gate, _all.GradGate, _all.Input, _table.Rows, range, columns);
            _products.AddBackwardWeight(_experts[i].Up, _all.GradUp, _all.Input, _table.Rows, range, columns);
        }

        _products.LaunchBackwardWeight(kernels);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardWeight(
                _experts[i].Down, _all.GradOutput, _all.Hidden, range: RangeOf(i),
                columns: _table.ColumnsOf(_experts[i].Index));
        }

        _products.LaunchBackwardWeight(kernels);
    }

    /// <summary>Gradients of the gate weights, and of the experts' outputs, ready for both gradients.</summary>
    private Operand OutputGradient(IKernels kernels, DeviceSlice own, Tensor gradWeights, bool makesTiles)
    {
        ProductPrecision precision = _recipe.Experts;
        Tensor gradRows = Dispatched(kernels, own.Rows);
        if (makesTiles)
        {
            var rows = QuantizedTensor.Allocate(_arena, _output.Rows, _output.Columns, precision.Gradient);
            var columns = QuantizedTensor.Allocate(_arena, _output.Columns, _table.TurnedColumns, precision.Gradient);
            kernels.CombineExpertsBackwardTiles(
                gradRows, _output, own.Table, own.Weights, _recipe.Combine, rows, columns, gradWeights);
            return new(default, rows, columns);
        }

        Tensor gradOutput = _arena.Allocate(
            _output.Rows, _output.Columns, ProducedOperand.StoredIn(kernels, precision));
        kernels.CombineExpertsBackward(
            gradRows, _output, own.Table, own.Weights, _recipe.Combine, gradOutput, gradWeights);
        return Operand.ExpertsGradient(kernels, _arena, gradOutput, _table, precision);
    }

    /// <summary>
    /// As <see cref="SaveInputs"/>, of all experts at once; where gradients are made in tiles the activation comes with
    /// them.
    /// </summary>
    private void SaveInputsOnDevice(IKernels kernels, bool makesTiles)
    {
        ProductPrecision precision = _recipe.Experts;
        if (!makesTiles && _recipe.SwiGluCache is { } format)
        {
            Operand.RoundToTiles(kernels, _arena, _gate, format);
            Operand.RoundToTiles(kernels, _arena, _up, format);
            if (precision.IsTiled)
            {
                kernels.SwiGlu(_gate, _up, _hiddenRows.Values);
                _hiddenRows = new(_hiddenRows.Values);
            }
            else
            {
                _hiddenRows = ProducedOperand.SwiGlu(kernels, _arena, _gate, _up, precision);
            }
        }

        (_all.Hidden, _all.Input) = (_hiddenRows, _input);
        if (precision.IsTiled)
        {
            _all.Input = _input with
            {
                Columns = _input.ExpertsTurned(kernels, _arena, _table, gathers: true, precision),
            };
        }

        if (precision.IsTiled && !makesTiles)
        {
            _all.Hidden = _hiddenRows with
            {
                Columns = _hiddenRows.ExpertsTurned(kernels, _arena, _table, gathers: false, precision),
            };
        }
    }

    /// <summary>Gradients of gate and up projections.</summary>
    private void Differentiate(IKernels kernels, Tensor gradHidden, bool makesTiles)
    {
        ProductPrecision precision = _recipe.Experts;
        if (makesTiles)
        {
            (_all.Hidden, _all.GradGate, _all.GradUp) = ProducedOperand.SwiGluBackward(
                kernels, _arena, gradHidden, _gate, _up, _recipe.SwiGluCache!.Value, _table, precision);
            return;
        }

        DType stored = ProducedOperand.StoredIn(kernels, precision);
        Tensor gradGate = _arena.Allocate(gradHidden.Rows, gradHidden.Columns, stored);
        Tensor gradUp = _arena.Allocate(gradHidden.Rows, gradHidden.Columns, stored);
        kernels.SwiGluBackward(gradHidden, _gate, _up, gradGate, gradUp);
        _all.GradGate = Operand.ExpertsGradient(kernels, _arena, gradGate, _table, precision);
        _all.GradUp = Operand.ExpertsGradient(kernels, _arena, gradUp, _table, precision);
    }

    /// <summary>
    /// What products read of a table, in memory of the batch's own: weight gradients may be taken when the sender's serves
    /// another micro-batch.
    /// </summary>
    private DispatchTable Keep(IKernels kernels, DispatchTable table)
    {
        Tensor offsets = _arena.Allocate(table.Offsets.Shape, DType.Int32);
        Tensor rows = _arena.Allocate(table.Rows.Shape, DType.Int32);
        kernels.Transfer(table.Offsets, offsets);
        kernels.Transfer(table.Rows, rows);
        return table with { Offsets = offsets, Rows = rows };
    }

    private Tensor RangeOf(int expert) => _table.RangeOf(_experts[expert].Index);
}
