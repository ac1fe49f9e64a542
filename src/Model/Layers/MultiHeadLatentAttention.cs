using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Multi-head latent attention (report 2.1.1, eq. 1-11): queries and keys/values pass through low-rank latents, one
/// rotated key is shared by all heads. Expanded for training and prefill; absorbed over a latent cache for decoding.
/// </summary>
public sealed class MultiHeadLatentAttention
{
    private readonly ModelConfig _config;
    private readonly PrecisionRecipe _recipe;
    private readonly Linear? _queryDown;
    private readonly RmsNorm? _queryNorm;
    private readonly Linear _query;
    private readonly Linear _keyValueDown;
    private readonly RmsNorm _keyValueNorm;
    private readonly Linear _keyValueUp;
    private readonly Linear _output;

    /// <summary>Takes the weights of one layer from <paramref name="parameters"/>, adding them.</summary>
    /// <param name="config">Head sizes and ranks.</param>
    /// <param name="parameters">Where the weights are added.</param>
    /// <param name="layer">Layer number in checkpoint names.</param>
    /// <param name="recipe">Precision of the products and of what is cached.</param>
    public MultiHeadLatentAttention(ModelConfig config, ParameterSet parameters, int layer, PrecisionRecipe recipe)
    {
        _config = config;
        _recipe = recipe;
        int heads = config.NumAttentionHeads;
        int queryWidth = heads * config.QkHeadDim;
        string prefix = $"model.layers.{layer}.self_attn.";
        if (config.QLoraRank is > 0 and int rank)
        {
            _queryDown = Add("q_a_proj", new(rank, config.HiddenSize));
            _queryNorm = new(parameters.Add(prefix + "q_a_layernorm.weight", new(rank)), Epsilon);
            _query = Add("q_b_proj", new(queryWidth, rank));
        }
        else
        {
            _query = Add("q_proj", new(queryWidth, config.HiddenSize));
        }

        _keyValueDown = Add("kv_a_proj_with_mqa", new(config.KvLoraRank + config.QkRopeHeadDim, config.HiddenSize));
        _keyValueNorm = new(parameters.Add(prefix + "kv_a_layernorm.weight", new(config.KvLoraRank)), Epsilon);
        _keyValueUp = Add(
            "kv_b_proj", new(heads * (config.QkNopeHeadDim + config.VHeadDim), config.KvLoraRank), absorbed: true);
        _output = parameters.AddLinear(
            prefix + "o_proj.weight", new(config.HiddenSize, heads * config.VHeadDim), recipe.AttentionOutput);

        Linear Add(string name, TensorShape shape, bool absorbed = false) =>
            parameters.AddLinear($"{prefix}{name}.weight", shape, recipe.Linear, absorbed);
    }

    private float Epsilon => (float)_config.RmsNormEps;

    /// <summary>Activations and gradients of one micro-batch; reused from one to the next.</summary>
    public sealed class State
    {
        internal readonly GroupedLinears Products = new();
        internal Tensor QueryLatent, Query, KeyValueLatent, KeyValue, KeyRope, Context, LogSumExp;
        internal RmsNorm.Saved QueryNorm, KeyValueNorm;
        internal Operand Input, QueryInput, KeyValueInput, OutputInput;
        internal Operand GradOutput, GradQuery, GradQueryLatent, GradKeyValue, GradKeyValueLatent;
        internal Tensor GradQueryNormed, GradLatentNormed;
        internal AttentionShape Shape;
        internal Tensor RotaryTable, Positions;
    }

    /// <summary>What its input is to be ready for.</summary>
    public ProductPrecision Precision => _recipe.Linear;

    /// <summary>output += attention(input), the expanded form, every sequence causal on its own.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D], normalised, for <see cref="Precision"/>.</param>
    /// <param name="output">[T, D]: the residual stream, added to.</param>
    /// <param name="layout">Sequences and positions.</param>
    /// <param name="rotaryTable">[positions, ropeDim] from <see cref="RotaryEmbedding"/>.</param>
    /// <param name="state">Filled.</param>
    public void Forward(
        IKernels kernels, Arena arena, Operand input, Tensor output, TokenLayout layout, Tensor rotaryTable, State state)
    {
        Project(kernels, arena, input, layout, rotaryTable, caches: false, state);
        Expand(kernels, arena, layout.SequenceStarts, state);
        ProjectOutput(kernels, arena, output, state);
    }

    /// <summary>
    /// As <see cref="Forward"/> for the next tokens of sequences with a cache: writes their latents there, then attends,
    /// expanded where the rows are whole sequences, else absorbed over the cache.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of this call.</param>
    /// <param name="input">[R, D], normalised, for <see cref="Precision"/>.</param>
    /// <param name="output">[R, D]: added to.</param>
    /// <param name="layout">Sequences and positions of the new tokens.</param>
    /// <param name="rotaryTable">[positions, ropeDim].</param>
    /// <param name="pages">The cache of this layer.</param>
    /// <param name="expanded">True where nothing was cached before.</param>
    /// <param name="state">Scratch.</param>
    public void ForwardCached(
        IKernels kernels, Arena arena, Operand input, Tensor output, TokenLayout layout, Tensor rotaryTable,
        in LatentPages pages, bool expanded, State state)
    {
        int tokens = input.Values.Rows;
        Project(kernels, arena, input, layout, rotaryTable, caches: true, state);
        kernels.StoreLatents(state.KeyValueNorm.Output, state.KeyRope, pages);
        if (expanded)
        {
            state.KeyValueInput = Operand.Input(kernels, arena, state.KeyValueNorm.Output, _recipe.Linear);
            Expand(kernels, arena, layout.SequenceStarts, state);
        }
        else
        {
            state.Context = arena.Allocate(tokens, _config.NumAttentionHeads * _config.VHeadDim);
            kernels.AbsorbedAttention(
                state.Query, _keyValueUp.Floats(kernels), pages, state.Context, Shape(layout.SequenceStarts));
        }

        ProjectOutput(kernels, arena, output, state);
    }

    /// <summary>Gradient of the input; keeps what <see cref="BackwardWeight"/> needs.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="state">From the forward.</param>
    /// <param name="gradOutput">[T, D]; must live until <see cref="BackwardWeight"/>.</param>
    /// <param name="gradInput">[T, D]; overwritten.</param>
    public void BackwardInput(IKernels kernels, Arena arena, State state, Tensor gradOutput, Tensor gradInput)
    {
        int tokens = gradOutput.Rows;
        int latent = _config.KvLoraRank;
        int rope = _config.QkRopeHeadDim;
        ProductPrecision precision = _recipe.Linear;
        Tensor gradQuery = arena.Allocate(tokens, state.Query.Columns);
        Tensor gradKeyValue = arena.Allocate(tokens, state.KeyValue.Columns);
        Tensor gradKeyValueLatent = arena.Allocate(tokens, latent + rope);
        Tensor gradContext = arena.Allocate(tokens, state.Context.Columns);
        Tensor gradKeyRope = gradKeyValueLatent.SliceColumns(latent, rope);
        state.GradOutput = Operand.Gradient(kernels, arena, gradOutput, _output.Precision);
        _output.BackwardInput(kernels, state.GradOutput, gradContext);
        kernels.AttentionBackward(
            gradContext, state.Query, state.KeyValue, state.KeyRope, state.Context, state.LogSumExp,
            gradQuery, gradKeyValue, gradKeyRope, state.Shape);
        kernels.RotaryEmbedding(gradKeyRope, 1, 0, state.RotaryTable, state.Positions, inverse: true);
        kernels.RotaryEmbedding(
            gradQuery, _config.NumAttentionHeads, _config.QkNopeHeadDim, state.RotaryTable, state.Positions,
            inverse: true);

        state.GradLatentNormed = arena.Allocate(tokens, latent);
        state.GradKeyValue = Operand.Gradient(kernels, arena, gradKeyValue, precision);
        _keyValueUp.BackwardInput(kernels, state.GradKeyValue, state.GradLatentNormed);
        _keyValueNorm.BackwardInput(
            kernels, state.KeyValueNorm, state.GradLatentNormed, gradKeyValueLatent.SliceColumns(0, latent));
        state.GradKeyValueLatent = Operand.Gradient(kernels, arena, gradKeyValueLatent, precision);
        _keyValueDown.BackwardInput(kernels, state.GradKeyValueLatent, gradInput);
        state.GradQuery = Operand.Gradient(kernels, arena, gradQuery, precision);
        if (_queryDown is null)
        {
            _query.BackwardInput(kernels, state.GradQuery, gradInput, accumulate: true);
        }
        else
        {
            Tensor gradQueryLatent = arena.Allocate(tokens, _queryDown.Outputs);
            state.GradQueryNormed = arena.Allocate(tokens, _queryDown.Outputs);
            _query.BackwardInput(kernels, state.GradQuery, state.GradQueryNormed);
            _queryNorm!.BackwardInput(kernels, state.QueryNorm, state.GradQueryNormed, gradQueryLatent);
            state.GradQueryLatent = Operand.Gradient(kernels, arena, gradQueryLatent, precision);
            _queryDown.BackwardInput(kernels, state.GradQueryLatent, gradInput, accumulate: true);
        }

        TurnInputs(kernels, arena, state);
    }

    /// <summary>Adds the gradients of all weights, at once or with the launch of <paramref
    /// name="gradients"/>.</summary>
    internal void BackwardWeight(IKernels kernels, WeightGradients gradients, State state)
    {
        gradients.Add(kernels, _output, state.GradOutput, state.OutputInput);
        gradients.Add(kernels, _keyValueUp, state.GradKeyValue, state.KeyValueInput);
        _keyValueNorm.BackwardWeight(kernels, state.KeyValueNorm, state.GradLatentNormed);
        gradients.Add(kernels, _keyValueDown, state.GradKeyValueLatent, state.Input);
        gradients.Add(kernels, _query, state.GradQuery, state.QueryInput);
        if (_queryDown is not null)
        {
            _queryNorm!.BackwardWeight(kernels, state.QueryNorm, state.GradQueryNormed);
            gradients.Add(kernels, _queryDown, state.GradQueryLatent, state.Input);
        }
    }

    /// <summary>Makes the inputs of all products ready for the weight gradients.</summary>
    private void TurnInputs(IKernels kernels, Arena arena, State state)
    {
        ProductPrecision precision = _recipe.Linear;
        state.Input = state.Input.ForWeightGradient(kernels, arena, precision);
        state.QueryInput = _queryDown is null
            ? state.Input
            : state.QueryInput.ForWeightGradient(kernels, arena, precision);
        state.KeyValueInput = state.KeyValueInput.ForWeightGradient(kernels, arena, precision);
        state.OutputInput = state.OutputInput.ForWeightGradient(kernels, arena, _output.Precision);
    }

    /// <summary>
    /// Queries, the normalised latent and the shared key, all rotated; a cache takes the latent as the norm gave it.
    /// </summary>
    private void Project(
        IKernels kernels, Arena arena, Operand input, TokenLayout layout, Tensor rotaryTable, bool caches, State state)
    {
        int tokens = input.Values.Rows;
        int latent = _config.KvLoraRank;
        state.Input = input;
        state.RotaryTable = rotaryTable;
        state.Positions = layout.Positions;
        state.QueryInput = state.Input;
        state.KeyValueLatent = arena.Allocate(tokens, latent + _config.QkRopeHeadDim);
        state.Query = arena.Allocate(tokens, _query.Outputs);
        if (_queryDown is null)
        {
            state.Products.ForwardBoth(
                kernels, _query, state.Query, _keyValueDown, state.KeyValueLatent, state.Input);
        }
        else
        {
            state.QueryLatent = arena.Allocate(tokens, _queryDown.Outputs);
            state.Products.ForwardBoth(
                kernels, _queryDown, state.QueryLatent, _keyValueDown, state.KeyValueLatent, state.Input);
            state.QueryNorm = _queryNorm!.Forward(kernels, arena, state.QueryLatent, _recipe.Linear, out state.QueryInput);
            _query.Forward(kernels, state.QueryInput, state.Query);
        }

        kernels.RotaryEmbedding(
            state.Query, _config.NumAttentionHeads, _config.QkNopeHeadDim, rotaryTable, layout.Positions);
        Tensor keyValue = state.KeyValueLatent.SliceColumns(0, latent);
        if (caches)
        {
            state.KeyValueNorm = _keyValueNorm.Forward(kernels, arena, keyValue);
        }
        else
        {
            state.KeyValueNorm = _keyValueNorm.Forward(
                kernels, arena, keyValue, _recipe.Linear, out state.KeyValueInput);
        }

        state.KeyRope = state.KeyValueLatent.SliceColumns(latent, _config.QkRopeHeadDim);
        kernels.RotaryEmbedding(state.KeyRope, 1, 0, rotaryTable, layout.Positions);
    }

    /// <summary>Keys and values of every head from the latent, and attention over them.</summary>
    private void Expand(IKernels kernels, Arena arena, int[] sequenceStarts, State state)
    {
        int tokens = state.Query.Rows;
        state.KeyValue = arena.Allocate(tokens, _keyValueUp.Outputs);
        _keyValueUp.Forward(kernels, state.KeyValueInput, state.KeyValue);
        state.Context = arena.Allocate(tokens, _config.NumAttentionHeads * _config.VHeadDim);
        state.LogSumExp = arena.Allocate(_config.NumAttentionHeads, tokens);
        state.Shape = Shape(sequenceStarts);
        kernels.Attention(
            state.Query, state.KeyValue, state.KeyRope, state.Context, state.LogSumExp, state.Shape);
    }

    /// <summary>The context as it is kept for the backward, and the Linear behind it.</summary>
    private void ProjectOutput(IKernels kernels, Arena arena, Tensor output, State state)
    {
        if (_recipe.AttentionCache is { } format)
        {
            Operand.RoundToTiles(kernels, arena, state.Context, format);
        }

        state.OutputInput = Operand.Input(kernels, arena, state.Context, _output.Precision);
        _output.Forward(kernels, state.OutputInput, output, accumulate: true);
    }

    private AttentionShape Shape(int[] sequenceStarts) => new(
        _config.NumAttentionHeads, _config.QkNopeHeadDim, _config.QkRopeHeadDim, _config.VHeadDim,
        _config.SoftmaxScale, sequenceStarts, _recipe.Attention);
}
