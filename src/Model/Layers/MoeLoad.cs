using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// What a step reports of a MoE layer's forward: read after the forward, so that the layer waits for nobody, by when the
/// layer's state may serve another micro-batch.
/// </summary>
/// <param name="state">Of the layer, after its forward.</param>
/// <param name="room">Host memory, until the values were asked for.</param>
internal sealed class MoeLoad(MoeLayer.State state, Arena room)
{
    private readonly int[] _planned = state.Plan.OnDevice is null ? [.. state.Plan.Load] : [];
    private readonly Tensor _offsets = Room(state.Plan.OnDevice?.Table.Offsets ?? default, room);
    private readonly Tensor _frequency = Room(state.Router.Frequency, room);
    private readonly Tensor _meanScore = Room(state.Router.MeanScore, room);

    /// <summary>True where the device has planned and no slice said how many tokens an expert got.</summary>
    public bool IsOfDevice { get; } = state.Plan.OnDevice is not null;

    /// <summary>Starts the transfers.</summary>
    public void Fetch(IKernels kernels)
    {
        Bring(kernels, state.Plan.OnDevice?.Table.Offsets ?? default, _offsets);
        Bring(kernels, state.Router.Frequency, _frequency);
        Bring(kernels, state.Router.MeanScore, _meanScore);
    }

    /// <summary>[E], once they have ended: tokens of each expert.</summary>
    public int[] Tokens()
    {
        if (!IsOfDevice)
        {
            return _planned;
        }

        ReadOnlySpan<int> offsets = _offsets.AsSpan<int>();
        var tokens = new int[_offsets.Columns - 1];
        for (int expert = 0; expert < tokens.Length; expert++)
        {
            tokens[expert] = offsets[expert + 1] - offsets[expert];
        }

        return tokens;
    }

    /// <summary>Mean over sequences of sum_i f_i P_i, before alpha; 0 where none was measured.</summary>
    public double BalanceLoss() => _frequency.IsEmpty
        ? 0
        : Layers.BalanceLoss.Mean(_frequency.AsSpan<float>(), _meanScore.AsSpan<float>(), _frequency.Rows);

    private static Tensor Room(Tensor source, Arena room) =>
        source.IsEmpty ? default : room.Allocate(source.Shape, source.DType);

    private static void Bring(IKernels kernels, Tensor source, Tensor destination)
    {
        if (!source.IsEmpty)
        {
            kernels.Transfer(source, destination);
        }
    }
}
