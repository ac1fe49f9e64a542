using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The experts of one host at work on one micro-batch of one layer: one grouped launch for all of them, forward and
/// backward. Keeps the activations between the two, and all that the weight gradients need: they may be taken long after
/// the results were handed over. Then it serves another micro-batch.
/// </summary>
public sealed class ExpertBatch(IDevice device, string name) : IDisposable
{
    private readonly Arena _arena = device.CreateArena(name);
    private GroupedProduct[] _products = [];
    private Expert[] _experts = [];
    private int[] _offsets = [0];
    private ExpertSlice _slice = new();
    private Tensor _input, _gate, _up, _hidden, _output, _rows, _scale;
    private Tensor _gradOutput, _gradGate, _gradUp;

    /// <summary>The experts of the last forward.</summary>
    public IReadOnlyList<Expert> Experts => _experts;

    /// <summary>Tokens of each of <see cref="Experts"/>.</summary>
    public int TokensOf(int expert) => _offsets[expert + 1] - _offsets[expert];

    /// <summary>Rows of the experts' outputs, reduced as far as the tree allows.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="slice">Who takes which row.</param>
    /// <param name="experts">The experts of <see cref="ExpertSlice.Experts"/>, in that order.</param>
    /// <param name="input">[rows, D]: the rows of <see cref="ExpertSlice.TokenRows"/>.</param>
    /// <param name="copyInput">
    /// Copies them for the weight gradients: the memory is the caller's and will be used for something else by then.
    /// </param>
    /// <returns>[<see cref="ExpertSlice.OutputRows"/>, D]; lives until the next forward of this batch.</returns>
    public Tensor Forward(
        IKernels kernels, ExpertSlice slice, ReadOnlySpan<Expert> experts, Tensor input, bool copyInput)
    {
        _arena.Reset();
        _slice = slice;
        _experts = experts.ToArray();
        _offsets = [.. slice.Offsets];
        int hidden = input.Columns;
        int width = experts.Length == 0 ? 1 : experts[0].Gate.Shape.D0;
        int assignments = slice.Assignments;
        Prepare(2 * experts.Length);
        _input = input;
        if (copyInput)
        {
            _input = _arena.Allocate(input.Rows, input.Columns);
            kernels.Copy(input, _input);
        }

        _rows = _arena.CopyOf(slice.Rows);
        _scale = _arena.CopyOf(slice.Weights);
        _gate = _arena.Allocate(assignments, width);
        _up = _arena.Allocate(assignments, width);
        _hidden = _arena.Allocate(assignments, width);
        _output = _arena.Allocate(assignments, hidden);
        for (int i = 0; i < experts.Length; i++)
        {
            Tensor rows = RowsOf(i);
            _products[2 * i] = new(_input, experts[i].Gate.Value, PartOf(_gate, i), rows);
            _products[(2 * i) + 1] = new(_input, experts[i].Up.Value, PartOf(_up, i), rows);
        }

        kernels.GroupedLinear(_products.AsSpan(0, 2 * experts.Length));
        kernels.SwiGlu(_gate, _up, _hidden);
        for (int i = 0; i < experts.Length; i++)
        {
            _products[i] = new(PartOf(_hidden, i), experts[i].Down.Value, PartOf(_output, i));
        }

        kernels.GroupedLinear(_products.AsSpan(0, experts.Length));
        return Reduce(kernels, _output, weighted: true);
    }

    /// <summary>
    /// Gradients of the received rows and of the gate weights; keeps what <see cref="BackwardWeight"/> needs.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="gradRows">[rows, D]: gradient of the layer's routed output at the received rows.</param>
    public ExpertGradients Backward(IKernels kernels, Tensor gradRows)
    {
        int assignments = _slice.Assignments;
        int count = _experts.Length;
        Tensor gradWeights = _arena.Allocate(assignments);
        Tensor gradHidden = _arena.Allocate(assignments, _hidden.Columns);
        Tensor gradInput = _arena.Allocate(assignments, _input.Columns);
        Tensor order = _arena.Allocate(assignments, DType.Int32);
        for (int i = 0; i < assignments; i++)
        {
            order.AsSpan<int>()[i] = i;
        }

        _gradOutput = _arena.Allocate(assignments, _input.Columns);
        _gradGate = _arena.Allocate(assignments, _hidden.Columns);
        _gradUp = _arena.Allocate(assignments, _hidden.Columns);
        kernels.DotRows(_output, order, gradRows, _rows, gradWeights);
        kernels.GatherRows(gradRows, _rows, _scale, _gradOutput);
        for (int i = 0; i < count; i++)
        {
            _products[i] = new(PartOf(_gradOutput, i), _experts[i].Down.Value, PartOf(gradHidden, i));
        }

        kernels.GroupedLinearBackwardInput(_products.AsSpan(0, count));
        kernels.SwiGluBackward(gradHidden, _gate, _up, _gradGate, _gradUp);
        for (int i = 0; i < count; i++)
        {
            _products[i] = new(PartOf(_gradGate, i), _experts[i].Gate.Value, PartOf(gradInput, i));
        }

        kernels.GroupedLinearBackwardInput(_products.AsSpan(0, count));
        for (int i = 0; i < count; i++)
        {
            _products[i] = new(PartOf(_gradUp, i), _experts[i].Up.Value, PartOf(gradInput, i), Accumulate: true);
        }

        kernels.GroupedLinearBackwardInput(_products.AsSpan(0, count));
        return new(Reduce(kernels, gradInput, weighted: false), gradWeights);
    }

    /// <summary>Adds the weight gradients of every expert of this batch.</summary>
    public void BackwardWeight(IKernels kernels)
    {
        int count = _experts.Length;
        for (int i = 0; i < count; i++)
        {
            _products[2 * i] = new(_input, _experts[i].Gate.Gradient, PartOf(_gradGate, i), RowsOf(i));
            _products[(2 * i) + 1] = new(_input, _experts[i].Up.Gradient, PartOf(_gradUp, i), RowsOf(i));
        }

        kernels.GroupedLinearBackwardWeight(_products.AsSpan(0, 2 * count));
        for (int i = 0; i < count; i++)
        {
            _products[i] = new(PartOf(_hidden, i), _experts[i].Down.Gradient, PartOf(_gradOutput, i));
        }

        kernels.GroupedLinearBackwardWeight(_products.AsSpan(0, count));
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private Tensor Reduce(IKernels kernels, Tensor rows, bool weighted)
    {
        Tensor result = _arena.Allocate(_slice.OutputRows, rows.Columns);
        if (_slice.ReducedRows > 0)
        {
            Tensor scale = default;
            if (weighted)
            {
                scale = _arena.Allocate(_slice.ReducedAssignments.Count);
                Span<float> values = scale.AsSpan<float>();
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = _slice.Weights[_slice.ReducedAssignments[i]];
                }
            }

            kernels.SumRows(
                rows, _arena.CopyOf(_slice.ReducedAssignments), scale, _arena.CopyOf(_slice.ReducedStarts),
                result.SliceRows(0, _slice.ReducedRows));
        }

        if (_slice.RawAssignments.Count > 0)
        {
            kernels.GatherRows(
                rows, _arena.CopyOf(_slice.RawAssignments), default,
                result.SliceRows(_slice.ReducedRows, _slice.RawAssignments.Count));
        }

        return result;
    }

    private void Prepare(int products)
    {
        if (_products.Length < products)
        {
            _products = new GroupedProduct[products];
        }
    }

    private Tensor PartOf(Tensor all, int expert) =>
        all.SliceRows(_offsets[expert], _offsets[expert + 1] - _offsets[expert]);

    private Tensor RowsOf(int expert)
    {
        int start = _offsets[expert];
        return new(_rows.Address + (start * sizeof(int)), new(_offsets[expert + 1] - start), DType.Int32);
    }
}
