using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>
/// What a stage reports of a micro-batch's forward: losses, loads of experts, balance losses. They are copied to host memory
/// of the report's own behind the forward, in transfers that the device does not wait for; so the micro-batch may go on, and
/// its memory to another, before they are read.
/// </summary>
public sealed class ForwardReport
{
    /// <summary>Rows of depth 1 below which a sequence is too short to compare the two heads.</summary>
    private const int AgreementRows = 3;

    private readonly IExpertFleet _fleet;
    private readonly Action<ForwardReport> _giveBack;
    private readonly Arena _room;
    private readonly List<(int Layer, MoeLoad Load)> _loads = [];
    private readonly List<HeadReport> _heads = [];
    private MicroBatch _batch = null!;

    /// <summary>What one head has said, the main one or an MTP depth's.</summary>
    private readonly record struct HeadReport(TokenLayout Layout, Tensor Losses, Tensor ArgMax);

    /// <summary>An empty report.</summary>
    /// <param name="room">Host memory that the device copies to; the report's own.</param>
    /// <param name="fleet">Is told the loads that only the device has counted.</param>
    /// <param name="giveBack">Takes the report when it was read.</param>
    internal ForwardReport(Arena room, IExpertFleet fleet, Action<ForwardReport> giveBack)
    {
        _room = room;
        _fleet = fleet;
        _giveBack = giveBack;
    }

    /// <summary>Starts over.</summary>
    internal void Begin(MicroBatch batch)
    {
        _room.Reset();
        _loads.Clear();
        _heads.Clear();
        _batch = batch;
    }

    /// <summary>Starts the transfers of a MoE layer's figures.</summary>
    internal void Fetch(IKernels kernels, BlockRunner.Entry entry)
    {
        var load = new MoeLoad(entry.State.Moe, _room);
        load.Fetch(kernels);
        _loads.Add((entry.Block.Layer, load));
    }

    /// <summary>Starts the transfers of a head's figures: the main one's first, then each depth's.</summary>
    internal void Fetch(IKernels kernels, TokenLayout layout, OutputHead.State head, bool evaluated) =>
        _heads.Add(new(layout, Bring(kernels, head.Losses), evaluated ? Bring(kernels, head.ArgMax) : default));

    /// <summary>One entry for each MoE layer, once the forward is done.</summary>
    public IReadOnlyList<LayerLoad> Loads()
    {
        var loads = new LayerLoad[_loads.Count];
        for (int i = 0; i < loads.Length; i++)
        {
            (int layer, MoeLoad load) = _loads[i];
            loads[i] = new(layer, load.Tokens(), load.BalanceLoss());
            if (load.IsOfDevice)
            {
                _fleet.Count(layer, loads[i].Load);
            }
        }

        return loads;
    }

    /// <summary>Losses, once the forward is done; null but on the last stage.</summary>
    public MicroBatchLosses? Losses()
    {
        if (_heads.Count == 0)
        {
            return null;
        }

        int[] starts = _heads[0].Layout.SequenceStarts;
        ReadOnlySpan<float> losses = _heads[0].Losses.AsSpan<float>();
        var perSequence = new double[starts.Length - 1];
        for (int s = 0; s < perSequence.Length; s++)
        {
            perSequence[s] = Sum(losses[starts[s]..starts[s + 1]]);
        }

        (int same, int compared) = _heads.Count > 1 && !_heads[0].ArgMax.IsEmpty ? Agreement() : default;
        return new()
        {
            MainSum = perSequence.Sum(),
            MainCount = _batch.TargetCount(0),
            MtpSums = [.. _heads.Skip(1).Select(head => Sum(head.Losses.AsSpan<float>()))],
            MtpCounts = [.. Enumerable.Range(1, _heads.Count - 1).Select(_batch.TargetCount)],
            SequenceSums = perSequence,
            Agreements = same,
            AgreementCount = compared,
        };
    }

    /// <summary>Lets another micro-batch have the report: it was read.</summary>
    public void GiveBack() => _giveBack(this);

    /// <summary>Frees the memory.</summary>
    internal void Free() => _room.Dispose();

    private Tensor Bring(IKernels kernels, Tensor source)
    {
        if (source.IsEmpty)
        {
            return default;
        }

        Tensor values = _room.Allocate(source.Shape, source.DType);
        kernels.Transfer(source, values);
        return values;
    }

    /// <summary>
    /// Rows where depth 1, which has seen the next token, and the main head one row on name the same token. Sequences
    /// of at most three ids are left out, and rows without a next token (the filling of a window).
    /// </summary>
    private (int Same, int Compared) Agreement()
    {
        TokenLayout layout = _heads[1].Layout;
        int[] starts = _heads[0].Layout.SequenceStarts;
        ReadOnlySpan<int> ahead = _heads[1].ArgMax.AsSpan<int>();
        ReadOnlySpan<int> main = _heads[0].ArgMax.AsSpan<int>();
        int[] targets = _batch.Targets;
        int same = 0, compared = 0;
        for (int s = 0; s < layout.Sequences; s++)
        {
            int rows = layout.SequenceStarts[s + 1] - layout.SequenceStarts[s];
            for (int i = 0; i < rows && rows >= AgreementRows; i++)
            {
                bool known = targets[starts[s] + i] >= 0;
                compared += known ? 1 : 0;
                same += known && ahead[layout.SequenceStarts[s] + i] == main[starts[s] + i + 1] ? 1 : 0;
            }
        }

        return (same, compared);
    }

    private static double Sum(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
        {
            sum += value;
        }

        return sum;
    }
}
