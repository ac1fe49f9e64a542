using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The experts of one host at work on one micro-batch of one layer: one grouped launch for all of them, forward and
/// backward. Keeps the activations between the two, and all that the weight gradients need: they may be taken long after
/// the results were handed over. Then it serves another micro-batch.
/// </summary>
public sealed partial class ExpertBatch(IDevice device, string name) : IDisposable
{
    private readonly Arena _arena = device.CreateArena(name);
    private readonly GroupedLinears _products = new();
    private PrecisionRecipe _recipe = PrecisionRecipe.Fp32;
    private Expert[] _experts = [];
    private SavedOperands[] _saved = [];
    private int[] _offsets = [0];
    private ExpertSlice _slice = new();
    private Operand _input, _hiddenRows;
    private Tensor _gate, _up, _hidden, _output, _rows, _scale;

    /// <summary>What the weight gradients of one expert read.</summary>
    private record struct SavedOperands(
        Operand Input, Operand Hidden, Operand GradOutput, Operand GradGate, Operand GradUp);

    /// <summary>The experts of the last forward.</summary>
    public IReadOnlyList<Expert> Experts => _experts;

    /// <summary>Tokens of each of <see cref="Experts"/>; 0 where only the device knows them.</summary>
    public int TokensOf(int expert) => _slice.OnDevice is null ? _offsets[expert + 1] - _offsets[expert] : 0;

    /// <summary>Rows of the experts' outputs, reduced as far as the tree allows.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="slice">Who takes which row.</param>
    /// <param name="experts">The experts of <see cref="ExpertSlice.Experts"/>, in that order.</param>
    /// <param name="input">[rows, D]: the rows of <see cref="ExpertSlice.TokenRows"/>; not read where the device plans.</param>
    /// <param name="copyInput">
    /// Copies them for the weight gradients: the memory is the caller's and will be used for something else by then.
    /// </param>
    /// <returns>
    /// [<see cref="ExpertSlice.OutputRows"/>, D], or a row for each assignment where the device has planned; lives until the
    /// next forward of this batch.
    /// </returns>
    public Tensor Forward(
        IKernels kernels, ExpertSlice slice, ReadOnlySpan<Expert> experts, Tensor input, bool copyInput)
    {
        _arena.Reset();
        _slice = slice;
        input = slice.OnDevice?.Rows ?? input;
        _experts = experts.ToArray();
        _recipe = experts.Length == 0 ? PrecisionRecipe.Fp32 : experts[0].Recipe;
        int hidden = input.Columns;
        int width = experts.Length == 0 ? 1 : experts[0].Gate.Outputs;
        int assignments = slice.Assignments;
        if (copyInput && _recipe.Experts.KeepsInput)
        {
            Tensor copy = _arena.Allocate(input.Rows, input.Columns);
            kernels.Copy(input, copy);
            input = copy;
        }

        _input = Operand.Input(kernels, _arena, input, _recipe.Experts);
        if (slice.OnDevice is { } own)
        {
            return ForwardOnDevice(kernels, own, hidden, width, copyInput);
        }

        _offsets = [.. slice.Offsets];
        _rows = _arena.Upload(kernels, slice.Rows);
        _scale = _arena.Upload(kernels, slice.Weights);
        _gate = _arena.Allocate(assignments, width);
        _up = _arena.Allocate(assignments, width);
        _hidden = _arena.Allocate(assignments, width);
        _output = _arena.Allocate(assignments, hidden);
        for (int i = 0; i < experts.Length; i++)
        {
            _products.AddForward(kernels, experts[i].Gate, _input, PartOf(_gate, i), RowsOf(i));
            _products.AddForward(kernels, experts[i].Up, _input, PartOf(_up, i), RowsOf(i));
        }

        _products.LaunchForward(kernels);
        kernels.SwiGlu(_gate, _up, _hidden);
        _hiddenRows = Operand.Input(kernels, _arena, _hidden, _recipe.Experts);
        for (int i = 0; i < experts.Length; i++)
        {
            _products.AddForward(kernels, experts[i].Down, PartOf(_hiddenRows, i), PartOf(_output, i));
        }

        _products.LaunchForward(kernels);
        RoundCombined(kernels, _output);
        return Reduce(kernels, _output, weighted: true);
    }

    /// <summary>
    /// Gradients of the received rows and of the gate weights; keeps what <see cref="BackwardWeight"/> needs.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="gradRows">
    /// [rows, D]: gradient of the layer's routed output at the received rows; not read where the device plans.
    /// </param>
    public ExpertGradients Backward(IKernels kernels, Tensor gradRows)
    {
        if (_slice.OnDevice is { } own)
        {
            return BackwardOnDevice(kernels, own);
        }

        int assignments = _slice.Assignments;
        int width = _hidden.Columns;
        Tensor gradWeights = _arena.Allocate(assignments);
        Tensor gradOutput = _arena.Allocate(assignments, _output.Columns);
        Tensor gradHidden = _arena.Allocate(assignments, width);
        Tensor gradGate = _arena.Allocate(assignments, width);
        Tensor gradUp = _arena.Allocate(assignments, width);
        Tensor gradInput = _arena.Allocate(assignments, _output.Columns);
        gradRows = Dispatched(kernels, gradRows);
        kernels.DotRows(_output, _arena.UploadRange(kernels, assignments), gradRows, _rows, gradWeights);
        kernels.GatherRows(gradRows, _rows, _scale, gradOutput);
        SaveInputs(kernels);
        Operand outputs = Gradients(kernels, gradOutput);
        for (int i = 0; i < _experts.Length; i++)
        {
            _saved[i].GradOutput = GradientOf(kernels, outputs, i);
            _products.AddBackwardInput(kernels, _experts[i].Down, _saved[i].GradOutput, PartOf(gradHidden, i));
        }

        _products.LaunchBackwardInput(kernels);
        kernels.SwiGluBackward(gradHidden, _gate, _up, gradGate, gradUp);
        Operand gates = Gradients(kernels, gradGate);
        Operand ups = Gradients(kernels, gradUp);
        for (int i = 0; i < _experts.Length; i++)
        {
            _saved[i].GradGate = GradientOf(kernels, gates, i);
            _products.AddBackwardInput(kernels, _experts[i].Gate, _saved[i].GradGate, PartOf(gradInput, i));
        }

        _products.LaunchBackwardInput(kernels);
        for (int i = 0; i < _experts.Length; i++)
        {
            _saved[i].GradUp = GradientOf(kernels, ups, i);
            _products.AddBackwardInput(kernels, _experts[i].Up, _saved[i].GradUp, PartOf(gradInput, i), accumulate: true);
        }

        _products.LaunchBackwardInput(kernels);
        RoundCombined(kernels, gradInput);
        return new(Reduce(kernels, gradInput, weighted: false), gradWeights);
    }

    /// <summary>Adds the weight gradients of every expert of this batch.</summary>
    public void BackwardWeight(IKernels kernels)
    {
        if (_slice.OnDevice is not null)
        {
            BackwardWeightOnDevice(kernels);
            return;
        }

        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardWeight(_experts[i].Gate, _saved[i].GradGate, _saved[i].Input, RowsOf(i));
            _products.AddBackwardWeight(_experts[i].Up, _saved[i].GradUp, _saved[i].Input, RowsOf(i));
        }

        _products.LaunchBackwardWeight(kernels);
        for (int i = 0; i < _experts.Length; i++)
        {
            _products.AddBackwardWeight(_experts[i].Down, _saved[i].GradOutput, _saved[i].Hidden);
        }

        _products.LaunchBackwardWeight(kernels);
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private Tensor Reduce(IKernels kernels, Tensor rows, bool weighted)
    {
        Tensor result = _arena.Allocate(_slice.OutputRows, rows.Columns);
        if (_slice.ReducedRows > 0)
        {
            Tensor scale = weighted
                ? _arena.Upload<float, ExpertSlice>(
                    kernels, _slice.ReducedAssignments.Count, _slice, static (values, slice) => slice.FillReducedWeights(values))
                : default;
            kernels.SumRows(
                rows, _arena.Upload(kernels, _slice.ReducedAssignments), scale, _arena.Upload(kernels, _slice.ReducedStarts),
                result.SliceRows(0, _slice.ReducedRows));
            RoundCombined(kernels, result.SliceRows(0, _slice.ReducedRows));
        }

        if (_slice.RawAssignments.Count > 0)
        {
            kernels.GatherRows(
                rows, _arena.Upload(kernels, _slice.RawAssignments), default,
                result.SliceRows(_slice.ReducedRows, _slice.RawAssignments.Count));
        }

        return result;
    }

    /// <summary>Gradients of all experts; those in tiles are made ready by <see cref="GradientOf"/>.</summary>
    private Operand Gradients(IKernels kernels, Tensor all) =>
        _recipe.Experts.IsTiled ? new(all) : Operand.Gradient(kernels, _arena, all, _recipe.Experts);

    /// <summary>Gradient of one expert: tiles along the tokens are of its own tokens only.</summary>
    private Operand GradientOf(IKernels kernels, in Operand all, int expert) => _recipe.Experts.IsTiled
        ? Operand.Gradient(kernels, _arena, PartOf(all.Values, expert), _recipe.Experts)
        : PartOf(all, expert);

    private Tensor PartOf(Tensor all, int expert) =>
        all.SliceRows(_offsets[expert], _offsets[expert + 1] - _offsets[expert]);

    private Operand PartOf(in Operand all, int expert) =>
        all.SliceRows(_offsets[expert], _offsets[expert + 1] - _offsets[expert]);

    private Tensor RowsOf(int expert) =>
        _rows.SliceElements(_offsets[expert], _offsets[expert + 1] - _offsets[expert]);
}
