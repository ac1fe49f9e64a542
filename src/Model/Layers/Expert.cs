using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The weights of one routed expert: a SwiGLU MLP (report eq. 12-15).</summary>
public sealed class Expert : IDisposable
{
    /// <summary>Allocates the weights of expert <paramref name="index"/> of <paramref name="layer"/>.</summary>
    /// <param name="config">Sizes.</param>
    /// <param name="device">Where it lives.</param>
    /// <param name="layer">Layer number in checkpoint names.</param>
    /// <param name="index">Index within the layer.</param>
    /// <param name="recipe">What its products run in; float32 where left out.</param>
    public Expert(ModelConfig config, IDevice device, int layer, int index, PrecisionRecipe? recipe = null)
    {
        Recipe = recipe ?? PrecisionRecipe.Fp32;
        Layer = layer;
        Index = index;
        string prefix = $"model.layers.{layer}.mlp.experts.{index}.";
        Parameters = new(device, $"expert {layer}/{index}", keepsMasters: Recipe.KeepsMasters);
        Gate = Parameters.AddLinear(
            prefix + "gate_proj.weight", new(config.MoeIntermediateSize, config.HiddenSize), Recipe.Experts);
        Up = Parameters.AddLinear(
            prefix + "up_proj.weight", new(config.MoeIntermediateSize, config.HiddenSize), Recipe.Experts);
        Down = Parameters.AddLinear(
            prefix + "down_proj.weight", new(config.HiddenSize, config.MoeIntermediateSize), Recipe.Experts);
    }

    /// <summary>What its products run in.</summary>
    public PrecisionRecipe Recipe { get; }

    /// <summary>Layer number in checkpoint names.</summary>
    public int Layer { get; }

    /// <summary>Index within the layer.</summary>
    public int Index { get; }

    /// <summary>All three matrices.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>[F, D].</summary>
    public Linear Gate { get; }

    /// <summary>[F, D].</summary>
    public Linear Up { get; }

    /// <summary>[D, F].</summary>
    public Linear Down { get; }

    /// <inheritdoc/>
    public void Dispose() => Parameters.Dispose();
}
