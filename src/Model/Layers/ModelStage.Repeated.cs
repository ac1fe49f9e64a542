using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <content>
/// Decoding as repeated work: where all experts of the stage share its device, a step is one submission whose kernels the
/// device may have recorded. The experts joined when it was made; who goes to which of them is planned on the device.
/// </content>
public sealed partial class ModelStage
{
    /// <summary>Most tokens that a step gives of each sequence.</summary>
    private const int MostAhead = 64;

    /// <summary>True where a step of decoding may be made once and run many times.</summary>
    private bool RepeatsSteps => _forInference && !_device.SharesHostMemory()
        && MoeLayersOfBlocks.All(layer => HostOfAll(layer) is { SharesDevice: true });

    private IEnumerable<int> MoeLayersOfBlocks =>
        _blocks.Where(block => block.Moe is not null).Select(block => block.Layer);

    private IExpertHost? HostOfAll(int layer) =>
        _fleet.TopologyOf(layer).OnlyHost is >= 0 and int host ? _fleet.Hosts[host] : null;

    /// <summary>A token of each sequence of a step: by the work that was made for as many rows, or for a few more.</summary>
    private async Task<DecodeResult> RepeatAsync(
        Slot held, long session, DecodeStep step, Tensor hidden, int[] positions)
    {
        int count = step.Sequences.Length;
        if (held.Repeated is not { } repeated || repeated.Rows < count || repeated.Rows >= 2 * count)
        {
            held.Repeated?.Dispose();
            held.Repeated = null;
            held.Repeated = repeated = await MakeAsync(held.Cache!, new(session, positions[0]), count);
        }

        int[] tokens = await repeated.RunAsync(step, positions, hidden);
        return new(repeated.Stream.SliceRows(0, count), tokens);
    }

    private async Task<RepeatedStep> MakeAsync(LatentKvCache cache, SlotCall call, int rows)
    {
        var experts = new Dictionary<int, Expert[]>();
        foreach (int layer in MoeLayersOfBlocks)
        {
            experts.Add(layer, await HostOfAll(layer)!.JoinAsync(layer, _fleet.TopologyOf(layer).Experts, call));
        }

        return new(this, cache, experts, rows);
    }

    /// <summary>A step of decoding of up to so many rows: its memory, which stays in place, and its work.</summary>
    private sealed class RepeatedStep : IDisposable
    {
        private readonly ModelStage _stage;
        private readonly LatentKvCache _cache;
        private readonly Arena _inputs, _activations;
        private readonly BlockRunner.Entry[] _blocks;
        private readonly Dictionary<int, (Expert[] Experts, ExpertBatch Batch)> _experts;
        private readonly TokenLayout _layout;
        private readonly ForwardPass _pass;
        private readonly RepeatedWork _work;
        private readonly Tensor _ids, _hidden, _table, _best, _next, _history;
        private readonly int[] _tokens, _pages, _positions;
        private Tensor _logits;
        private bool _tableWritten;

        public RepeatedStep(ModelStage stage, LatentKvCache cache, Dictionary<int, Expert[]> experts, int rows)
        {
            _stage = stage;
            _cache = cache;
            Rows = rows;
            IDevice device = stage._device;
            string name = $"stage {stage.Range.Index}, decoding of {rows} sequences";
            _inputs = device.CreateArena($"{name}, inputs");
            _activations = device.CreateArena(name);
            _experts = experts.ToDictionary(
                layer => layer.Key, layer => (layer.Value, new ExpertBatch(device, $"{name}, experts")));
            _blocks = [.. stage._blocks.Select(block => new BlockRunner.Entry(block, new()))];
            foreach ((TransformerBlock block, TransformerBlock.State state) in _blocks.Where(entry => entry.Block.Moe is not null))
            {
                // However few tokens there are: nothing may be read by the host.
                state.Moe.Plan.LeaveToDevice(
                    rows, stage.Config.NumExpertsPerTok, stage._fleet.TopologyOf(block.Layer));
            }

            _layout = TokenLayout.Create(_inputs, [.. Enumerable.Range(0, rows + 1)]);
            _ids = _inputs.Allocate(rows, DType.Int32);
            _best = _inputs.Allocate(rows, DType.Int32);
            _next = _inputs.Allocate(1, DType.Int32);
            _history = _inputs.Allocate(MostAhead, rows, DType.Int32);
            _hidden = stage.Embedding is null ? _inputs.Allocate(rows, stage.Config.HiddenSize) : default;
            _table = _inputs.Allocate(rows, cache.MostPages, DType.Int32);
            (_tokens, _positions, _pages) = (new int[rows], new int[rows], new int[rows * cache.MostPages]);
            _pass = new(
                _layout, stage._rotaryTable, null, new(cache, stage.Range.FirstLayer, _table, Expanded: false))
            {
                Repeats = true,
            };
            _work = device.Repeat(Compute);
        }

        /// <summary>Most sequences of a step.</summary>
        public int Rows { get; }

        /// <summary>[rows, D] after a run: the residual stream.</summary>
        public Tensor Stream => _blocks[^1].State.Output;

        /// <summary>Runs a step; gives the tokens that follow, on the last stage.</summary>
        public async Task<int[]> RunAsync(DecodeStep step, int[] positions, Tensor hidden)
        {
            int[] tokens = [];
            await _work.RunAsync(
                kernels => Write(kernels, step, positions, hidden),
                kernels => tokens = _stage.Range.IsLast ? Choose(kernels, step, positions) : [],
                step.Ahead);
            return tokens;
        }

        public void Dispose()
        {
            _work.Dispose();
            foreach ((_, ExpertBatch batch) in _experts.Values)
            {
                batch.Dispose();
            }

            _activations.Dispose();
            _inputs.Dispose();
        }

        /// <summary>What the step reads. Rows beyond its sequences compute the first token of a page that is nobody's.</summary>
        private void Write(IKernels kernels, DecodeStep step, int[] positions, Tensor hidden)
        {
            int count = step.Sequences.Length;
            positions.CopyTo(_positions, 0);
            _positions.AsSpan(count).Clear();
            _layout.At(_positions).Fill(kernels);
            if (_hidden.IsEmpty)
            {
                kernels.Upload<int>([0], _next);
                step.Tokens.CopyTo(_tokens, 0);
                _tokens.AsSpan(count).Clear();
                kernels.Upload<int>(_tokens, _ids);
            }
            else
            {
                kernels.Fill(_hidden, 0);
                kernels.Copy(hidden, _hidden.SliceRows(0, count));
            }

            int[] pages = System.Buffers.ArrayPool<int>.Shared.Rent(_pages.Length);
            Span<int> table = pages.AsSpan(0, _pages.Length);
            table.Fill(_cache.SparePage);
            _cache.FillTable(step.Sequences, table[..(count * _cache.MostPages)]);
            if (!_tableWritten || !table.SequenceEqual(_pages))
            {
                // Not before the device has it: an upload that fails leaves the old one there.
                _tableWritten = false;
                table.CopyTo(_pages);
                kernels.Upload<int>(_pages, _table);
                _tableWritten = true;
            }

            System.Buffers.ArrayPool<int>.Shared.Return(pages);
        }

        private void Compute(IKernels kernels)
        {
            _activations.Reset();
            Tensor stream = _hidden.IsEmpty ? _stage.Embedding!.Forward(kernels, _activations, _ids) : _hidden;
            foreach ((TransformerBlock block, TransformerBlock.State state) in _blocks)
            {
                ExpertTopology? topology = block.Moe is null ? null : _stage._fleet.TopologyOf(block.Layer);
                block.Forward(kernels, _activations, stream, _pass, topology, state);
                if (topology is not null)
                {
                    (Expert[] experts, ExpertBatch batch) = _experts[block.Layer];
                    batch.Forward(
                        kernels, state.Moe.Plan.Slices[topology.OnlyHost], experts, input: default, copyInput: false);
                    block.ForwardShared(kernels, _activations, state);
                    MoeLayer.Combine(kernels, _activations, state.Moe);
                }

                stream = state.Output;
            }

            if (_stage.Range.IsLast)
            {
                RmsNorm.Saved normed = _stage._norm!.Forward(kernels, _activations, stream);
                _logits = _stage.Head!.Logits(kernels, _activations, normed.Output);
                kernels.ArgMax(_logits, _best);
                if (_hidden.IsEmpty)
                {
                    // What a run behind this one reads, in the same submission.
                    kernels.AppendTokens(_best, _history, _next, _ids, _layout.Positions);
                }
            }
        }

        private int[] Choose(IKernels kernels, DecodeStep step, int[] positions)
        {
            int count = step.Sequences.Length;
            if (step.Ahead == 1)
            {
                int[] one = kernels.Read<int>(_best)[..count].ToArray();
                Sample(kernels, _logits, step, positions, one);
                return one;
            }

            ReadOnlySpan<int> all = kernels.Read<int>(_history.SliceRows(0, step.Ahead));
            int[] tokens = new int[step.Ahead * count];
            for (int i = 0; i < step.Ahead; i++)
            {
                all.Slice(i * Rows, count).CopyTo(tokens.AsSpan(i * count));
            }

            return tokens;
        }
    }
}
