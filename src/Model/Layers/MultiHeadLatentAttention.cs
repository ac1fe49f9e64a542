using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Multi-head latent attention (report 2.1.1, eq. 1-11): queries and keys/values pass through low-rank latents, one
/// rotated key is shared by all heads. Expanded for training and prefill; absorbed over a latent cache for decoding.
/// </summary>
public sealed class MultiHeadLatentAttention
{
    private readonly ModelConfig _config;
    private readonly Parameter? _queryDown;
    private readonly RmsNorm? _queryNorm;
    private readonly Parameter _query;
    private readonly Parameter _keyValueDown;
    private readonly RmsNorm _keyValueNorm;
    private readonly Parameter _keyValueUp;
    private readonly Parameter _output;

    /// <summary>Takes the weights of one layer from <paramref name="parameters"/>, adding them.</summary>
    /// <param name="config">Head sizes and ranks.</param>
    /// <param name="parameters">Where the weights are added.</param>
    /// <param name="layer">Layer number in checkpoint names.</param>
    public MultiHeadLatentAttention(ModelConfig config, ParameterSet parameters, int layer)
    {
        _config = config;
        int heads = config.NumAttentionHeads;
        int queryWidth = heads * config.QkHeadDim;
        string prefix = $"model.layers.{layer}.self_attn.";
        if (config.QLoraRank is > 0 and int rank)
        {
            _queryDown = parameters.Add(prefix + "q_a_proj.weight", new(rank, config.HiddenSize));
            _queryNorm = new(parameters.Add(prefix + "q_a_layernorm.weight", new(rank)), Epsilon);
            _query = parameters.Add(prefix + "q_b_proj.weight", new(queryWidth, rank));
        }
        else
        {
            _query = parameters.Add(prefix + "q_proj.weight", new(queryWidth, config.HiddenSize));
        }

        _keyValueDown = parameters.Add(
            prefix + "kv_a_proj_with_mqa.weight", new(config.KvLoraRank + config.QkRopeHeadDim, config.HiddenSize));
        _keyValueNorm = new(parameters.Add(prefix + "kv_a_layernorm.weight", new(config.KvLoraRank)), Epsilon);
        _keyValueUp = parameters.Add(
            prefix + "kv_b_proj.weight",
            new(heads * (config.QkNopeHeadDim + config.VHeadDim), config.KvLoraRank));
        _output = parameters.Add(prefix + "o_proj.weight", new(config.HiddenSize, heads * config.VHeadDim));
    }

    private float Epsilon => (float)_config.RmsNormEps;

    /// <summary>Activations and gradients of one micro-batch; reused from one to the next.</summary>
    public sealed class State
    {
        internal Tensor Input, QueryLatent, Query, KeyValueLatent, KeyValue, KeyRope, Context, LogSumExp;
        internal RmsNorm.Saved QueryNorm, KeyValueNorm;
        internal Tensor GradOutput, GradQuery, GradQueryLatent, GradQueryNormed, GradKeyValue, GradKeyValueLatent;
        internal Tensor GradLatentNormed;
        internal AttentionShape Shape;
        internal Tensor RotaryTable, Positions;
    }

    /// <summary>output += attention(input), the expanded form, every sequence causal on its own.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D], normalised.</param>
    /// <param name="output">[T, D]: the residual stream, added to.</param>
    /// <param name="layout">Sequences and positions.</param>
    /// <param name="rotaryTable">[positions, ropeDim] from <see cref="RotaryEmbedding"/>.</param>
    /// <param name="state">Filled.</param>
    public void Forward(
        IKernels kernels, Arena arena, Tensor input, Tensor output, TokenLayout layout, Tensor rotaryTable, State state)
    {
        Project(kernels, arena, input, layout, rotaryTable, state);
        Expand(kernels, arena, layout.SequenceStarts, state);
        kernels.Linear(state.Context, _output.Value, output, accumulate: true);
    }

    /// <summary>
    /// As <see cref="Forward"/> for the next tokens of one sequence: writes their latents to the cache, then attends
    /// over it, expanded where the cache was empty, absorbed otherwise.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of this call.</param>
    /// <param name="input">[R, D], normalised.</param>
    /// <param name="output">[R, D]: added to.</param>
    /// <param name="layout">Positions of the new tokens.</param>
    /// <param name="rotaryTable">[positions, ropeDim].</param>
    /// <param name="cache">[capacity, latent + rope] of this layer.</param>
    /// <param name="firstPosition">Tokens already in the cache.</param>
    /// <param name="state">Scratch.</param>
    public void ForwardCached(
        IKernels kernels, Arena arena, Tensor input, Tensor output, TokenLayout layout, Tensor rotaryTable,
        Tensor cache, int firstPosition, State state)
    {
        Project(kernels, arena, input, layout, rotaryTable, state);
        Tensor rows = cache.SliceRows(firstPosition, input.Rows);
        kernels.Copy(state.KeyValueNorm.Output, rows.SliceColumns(0, _config.KvLoraRank));
        kernels.Copy(state.KeyRope, rows.SliceColumns(_config.KvLoraRank, _config.QkRopeHeadDim));
        if (firstPosition == 0)
        {
            Expand(kernels, arena, layout.SequenceStarts, state);
        }
        else
        {
            state.Context = arena.Allocate(input.Rows, _config.NumAttentionHeads * _config.VHeadDim);
            kernels.AbsorbedAttention(
                state.Query, _keyValueUp.Value, cache, firstPosition, state.Context, Shape(layout.SequenceStarts));
        }

        kernels.Linear(state.Context, _output.Value, output, accumulate: true);
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
        state.GradOutput = gradOutput;
        state.GradQuery = arena.Allocate(tokens, state.Query.Columns);
        state.GradKeyValue = arena.Allocate(tokens, state.KeyValue.Columns);
        state.GradKeyValueLatent = arena.Allocate(tokens, latent + rope);
        Tensor gradContext = arena.Allocate(tokens, state.Context.Columns);
        Tensor gradKeyRope = state.GradKeyValueLatent.SliceColumns(latent, rope);
        kernels.LinearBackwardInput(gradOutput, _output.Value, gradContext);
        kernels.AttentionBackward(
            gradContext, state.Query, state.KeyValue, state.KeyRope, state.Context, state.LogSumExp,
            state.GradQuery, state.GradKeyValue, gradKeyRope, state.Shape);
        kernels.RotaryEmbedding(gradKeyRope, 1, 0, state.RotaryTable, state.Positions, inverse: true);
        kernels.RotaryEmbedding(
            state.GradQuery, _config.NumAttentionHeads, _config.QkNopeHeadDim, state.RotaryTable, state.Positions,
            inverse: true);

        state.GradLatentNormed = arena.Allocate(tokens, latent);
        kernels.LinearBackwardInput(state.GradKeyValue, _keyValueUp.Value, state.GradLatentNormed);
        _keyValueNorm.BackwardInput(
            kernels, state.KeyValueNorm, state.GradLatentNormed, state.GradKeyValueLatent.SliceColumns(0, latent));
        kernels.LinearBackwardInput(state.GradKeyValueLatent, _keyValueDown.Value, gradInput);
        if (_queryDown is null)
        {
            kernels.LinearBackwardInput(state.GradQuery, _query.Value, gradInput, accumulate: true);
            return;
        }

        state.GradQueryNormed = arena.Allocate(tokens, _queryDown.Shape.D0);
        state.GradQueryLatent = arena.Allocate(tokens, _queryDown.Shape.D0);
        kernels.LinearBackwardInput(state.GradQuery, _query.Value, state.GradQueryNormed);
        _queryNorm!.BackwardInput(kernels, state.QueryNorm, state.GradQueryNormed, state.GradQueryLatent);
        kernels.LinearBackwardInput(state.GradQueryLatent, _queryDown.Value, gradInput, accumulate: true);
    }

    /// <summary>Adds the gradients of all weights.</summary>
    public void BackwardWeight(IKernels kernels, State state)
    {
        kernels.LinearBackwardWeight(state.GradOutput, state.Context, _output.Gradient);
        kernels.LinearBackwardWeight(state.GradKeyValue, state.KeyValueNorm.Output, _keyValueUp.Gradient);
        _keyValueNorm.BackwardWeight(kernels, state.KeyValueNorm, state.GradLatentNormed);
        kernels.LinearBackwardWeight(state.GradKeyValueLatent, state.Input, _keyValueDown.Gradient);
        if (_queryDown is null)
        {
            kernels.LinearBackwardWeight(state.GradQuery, state.Input, _query.Gradient);
            return;
        }

        kernels.LinearBackwardWeight(state.GradQuery, state.QueryNorm.Output, _query.Gradient);
        _queryNorm!.BackwardWeight(kernels, state.QueryNorm, state.GradQueryNormed);
        kernels.LinearBackwardWeight(state.GradQueryLatent, state.Input, _queryDown.Gradient);
    }

    /// <summary>Queries, the normalised latent and the shared key, all rotated.</summary>
    private void Project(
        IKernels kernels, Arena arena, Tensor input, TokenLayout layout, Tensor rotaryTable, State state)
    {
        int tokens = input.Rows;
        int latent = _config.KvLoraRank;
        state.Input = input;
        state.RotaryTable = rotaryTable;
        state.Positions = layout.Positions;
        Tensor querySource = input;
        if (_queryDown is not null)
        {
            state.QueryLatent = arena.Allocate(tokens, _queryDown.Shape.D0);
            kernels.Linear(input, _queryDown.Value, state.QueryLatent);
            state.QueryNorm = _queryNorm!.Forward(kernels, arena, state.QueryLatent);
            querySource = state.QueryNorm.Output;
        }

        state.Query = arena.Allocate(tokens, _query.Shape.D0);
        kernels.Linear(querySource, _query.Value, state.Query);
        kernels.RotaryEmbedding(
            state.Query, _config.NumAttentionHeads, _config.QkNopeHeadDim, rotaryTable, layout.Positions);

        state.KeyValueLatent = arena.Allocate(tokens, latent + _config.QkRopeHeadDim);
        kernels.Linear(input, _keyValueDown.Value, state.KeyValueLatent);
        state.KeyValueNorm = _keyValueNorm.Forward(kernels, arena, state.KeyValueLatent.SliceColumns(0, latent));
        state.KeyRope = state.KeyValueLatent.SliceColumns(latent, _config.QkRopeHeadDim);
        kernels.RotaryEmbedding(state.KeyRope, 1, 0, rotaryTable, layout.Positions);
    }

    /// <summary>Keys and values of every head from the latent, and attention over them.</summary>
    private void Expand(IKernels kernels, Arena arena, int[] sequenceStarts, State state)
    {
        int tokens = state.Query.Rows;
        state.KeyValue = arena.Allocate(tokens, _keyValueUp.Shape.D0);
        kernels.Linear(state.KeyValueNorm.Output, _keyValueUp.Value, state.KeyValue);
        state.Context = arena.Allocate(tokens, _config.NumAttentionHeads * _config.VHeadDim);
        state.LogSumExp = arena.Allocate(_config.NumAttentionHeads, tokens);
        state.Shape = Shape(sequenceStarts);
        kernels.Attention(
            state.Query, state.KeyValue, state.KeyRope, state.Context, state.LogSumExp, state.Shape);
    }

    private AttentionShape Shape(int[] sequenceStarts) => new(
        _config.NumAttentionHeads, _config.QkNopeHeadDim, _config.QkRopeHeadDim, _config.VHeadDim,
        _config.SoftmaxScale, sequenceStarts);
}
