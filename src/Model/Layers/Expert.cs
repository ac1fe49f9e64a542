using Krewe.Model.Configuration;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The weights of one routed expert: a SwiGLU MLP (report eq. 12-15).</summary>
public sealed class Expert : IDisposable
{
    /// <summary>Allocates the weights of expert <paramref name="index"/> of <paramref name="layer"/>.</summary>
    public Expert(ModelConfig config, IDevice device, int layer, int index)
    {
        Layer = layer;
        Index = index;
        string prefix = $"model.layers.{layer}.mlp.experts.{index}.";
        Parameters = new(device, $"expert {layer}/{index}");
        Gate = Parameters.Add(prefix + "gate_proj.weight", new(config.MoeIntermediateSize, config.HiddenSize));
        Up = Parameters.Add(prefix + "up_proj.weight", new(config.MoeIntermediateSize, config.HiddenSize));
        Down = Parameters.Add(prefix + "down_proj.weight", new(config.HiddenSize, config.MoeIntermediateSize));
    }

    /// <summary>Layer number in checkpoint names.</summary>
    public int Layer { get; }

    /// <summary>Index within the layer.</summary>
    public int Index { get; }

    /// <summary>All three matrices.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>[F, D].</summary>
    public Parameter Gate { get; }

    /// <summary>[F, D].</summary>
    public Parameter Up { get; }

    /// <summary>[D, F].</summary>
    public Parameter Down { get; }

    /// <inheritdoc/>
    public void Dispose() => Parameters.Dispose();
}
