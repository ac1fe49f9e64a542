using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// One pipeline stage: a run of blocks, with the embedding in front on the first and norm, head and MTP behind on the
/// last. Routed experts are not here but with the <see cref="IExpertFleet"/>; embedding and head are owners of their own,
/// which a copy of the stage elsewhere may have. Everything is asynchronous: it submits work to its device and waits for
/// the experts' hosts.
/// </summary>
/// <remarks>
/// Calls for different slots may overlap; calls for one slot must come one after the other. Tensors that a call returns
/// live until the slot's next forward.
/// </remarks>
public sealed partial class ModelStage : IDisposable
{
    private readonly IDevice _device;
    private readonly IExpertFleet _fleet;
    private readonly BlockRunner _runner;
    private readonly Arena _buffers;
    private readonly Tensor _rotaryTable;
    private readonly DType _latentCache;
    private readonly bool _forInference;
    private readonly List<TransformerBlock> _blocks = [];
    private readonly RmsNorm? _norm;
    private readonly List<MultiTokenPrediction> _mtp = [];
    private readonly Dictionary<long, Slot> _slots = [];
    private readonly Stack<Slot> _idle = [];
    private readonly List<ForwardReport> _reports = [];
    private readonly Stack<ForwardReport> _idleReports = [];
    private readonly Dictionary<int, Tensor> _biases = [];
    private bool _rotaryTableFilled;

    /// <summary>Allocates the stage's parameters and routing biases, uninitialised, and its rotary table.</summary>
    /// <param name="config">The model.</param>
    /// <param name="range">Which part of it.</param>
    /// <param name="device">Where it computes.</param>
    /// <param name="fleet">Where the routed experts are.</param>
    /// <param name="maxPositions">Longest sequence, in tokens.</param>
    /// <param name="recipe">What its products run in; float32 where left out.</param>
    /// <param name="twin">
    /// The same stage of the other direction on the same device, whose parameters are shared; or null.
    /// </param>
    public ModelStage(
        ModelConfig config, StageRange range, IDevice device, IExpertFleet fleet, int maxPositions,
        PrecisionRecipe? recipe = null, ModelStage? twin = null)
    {
        recipe ??= PrecisionRecipe.Fp32;
        Config = config;
        Range = range;
        _device = device;
        _fleet = fleet;
        _latentCache = recipe.LatentCache;
        _forInference = !recipe.KeepsMasters;
        string owner = $"stage {range.Index}";
        Parameters = twin?.Parameters.Share() ?? new(device, owner, gradientBanks: 2, recipe.KeepsMasters);
        _runner = new(device, fleet, Parameters);
        _buffers = device.CreateArena($"{owner} buffers");
        _rotaryTable = _buffers.Allocate(maxPositions, config.QkRopeHeadDim);
        for (int layer = range.FirstLayer; layer < range.FirstLayer + range.LayerCount; layer++)
        {
            _blocks.Add(new(config, Parameters, _buffers, layer, recipe));
        }

        if (range.IsLast)
        {
            _norm = new(Parameters.Add("model.norm.weight", new(config.HiddenSize)), (float)config.RmsNormEps);
            for (int depth = 1; depth <= config.NumNextnPredictLayers; depth++)
            {
                _mtp.Add(new(config, Parameters, _buffers, depth, recipe));
            }
        }

        foreach (TransformerBlock block in _blocks.Concat(_mtp.Select(module => module.Block)))
        {
            if (block.Moe is { Router.Bias.IsEmpty: false } moe)
            {
                _biases.Add(block.Layer, moe.Router.Bias);
            }
        }
    }

    /// <summary>The model.</summary>
    public ModelConfig Config { get; }

    /// <summary>Which part of the model this is.</summary>
    public StageRange Range { get; }

    /// <summary>Parameters of the stage's blocks, norms and MTP modules, the routed experts' excluded.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>
    /// The embedding of a first stage on this device; null where it lives elsewhere: then what <see cref="ForwardAsync"/>
    /// gets are its rows, and what <see cref="BackwardAsync"/> returns is for it. Not to be changed while calls are under
    /// way; not the stage's to dispose.
    /// </summary>
    public TokenEmbedding? Embedding { get; set; }

    /// <summary>The head of a last stage on this device; as <see cref="Embedding"/>.</summary>
    public OutputHead? Head { get; set; }

    /// <summary>The head of a last stage where it lives elsewhere.</summary>
    public IRemoteHead? RemoteHead { get; set; }

    /// <summary>The stage's parameters, and those of embedding and head where they are on this device.</summary>
    public IEnumerable<ParameterSet> ParameterSets =>
        new[] { Parameters, Embedding?.Parameters, Head?.Parameters }.OfType<ParameterSet>();

    /// <summary>Longest sequence, in tokens.</summary>
    public int MaxPositions => _rotaryTable.Rows;

    /// <summary>
    /// Micro-batches and sessions that there is memory for: the most that were kept at once, since memory is taken for
    /// another one only while all that there is is in use.
    /// </summary>
    public int SlotsAllocated
    {
        get
        {
            lock (_slots)
            {
                return _slots.Count + _idle.Count;
            }
        }
    }

    /// <summary>Layers with routed experts, MTP layers included.</summary>
    public IEnumerable<int> MoeLayers => _blocks.Concat(_mtp.Select(module => module.Block))
        .Where(block => block.Moe is not null).Select(block => block.Layer);

    /// <summary>Routing bias [E] of each MoE layer that has one, float32.</summary>
    public IReadOnlyDictionary<int, Tensor> Biases => _biases;

    /// <summary>Checkpoint name of a layer's routing bias.</summary>
    public static string BiasName(int layer) => $"model.layers.{layer}.mlp.gate.e_score_correction_bias";

    /// <summary>The routing bias of that checkpoint name, or empty where this stage has none.</summary>
    public Tensor FindBias(string name) => _biases.FirstOrDefault(bias => BiasName(bias.Key) == name).Value;

    /// <summary>
    /// Replaces the routing bias of a layer, for what is submitted after the call; <paramref name="bias"/> must not change
    /// before the task ends.
    /// </summary>
    public Task SetBiasAsync(int layer, float[] bias)
    {
        Tensor destination = _biases[layer];
        return _device.ReadAsync(kernels => kernels.Upload<float>(bias, destination));
    }

    /// <summary>Frees what a slot holds here and with the experts' hosts.</summary>
    public async Task ReleaseAsync(long slot)
    {
        Slot? held;
        lock (_slots)
        {
            _slots.Remove(slot, out held);
        }

        if (held is not null)
        {
            // On the device, behind all work that touches the slot.
            await _device.SubmitAsync(_ => held.Dispose(), WorkPriority.Background);
        }

        await Task.WhenAll(_fleet.Hosts.Select(host => host.ReleaseAsync(slot)));
    }

    /// <summary>True while something is kept for a slot.</summary>
    public bool Holds(long slot)
    {
        lock (_slots)
        {
            return _slots.ContainsKey(slot);
        }
    }

    /// <summary>Takes the memory of every slot back for new ones: a step was given up, its slots will not go on.</summary>
    public void RetireAll()
    {
        lock (_slots)
        {
            foreach (Slot slot in _slots.Values.Where(slot => slot.Cache is null))
            {
                _idle.Push(slot);
            }

            foreach (long slot in _slots.Keys.Where(key => _slots[key].Cache is null).ToArray())
            {
                _slots.Remove(slot);
            }

            // Those that nobody has read too.
            _idleReports.Clear();
            _reports.ForEach(_idleReports.Push);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Slot slot in _slots.Values.Concat(_idle))
        {
            slot.Dispose();
        }

        foreach (ForwardReport report in _reports)
        {
            report.Free();
        }

        _slots.Clear();
        _idle.Clear();
        _reports.Clear();
        _idleReports.Clear();
        Parameters.Dispose();
        _buffers.Dispose();
    }

    private Slot SlotOf(long slot)
    {
        lock (_slots)
        {
            if (!_slots.TryGetValue(slot, out Slot? held))
            {
                held = _idle.Count > 0
                    ? _idle.Pop()
                    : new(_device.CreateArena($"stage {Range.Index}, activations {_slots.Count}"), _blocks, _mtp);
                _slots.Add(slot, held);
            }

            return held;
        }
    }

    /// <summary>
    /// The micro-batch is over: the next one takes its memory, so that a stage holds as many as its schedule keeps alive
    /// and not as many as a step has. After a check the activations stay, to be read.
    /// </summary>
    private void Retire(long slot, Slot held)
    {
        if (held.Options.Mode != ForwardMode.Training)
        {
            return;
        }

        lock (_slots)
        {
            _slots.Remove(slot);
            _idle.Push(held);
        }
    }

    private bool MtpReadsNormed => Config.MtpUsesPostNorm;
}
