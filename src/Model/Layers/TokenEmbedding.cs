using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The embedding table, an owner of its own: copies of the first stage for both directions use one
/// (docs/decisions/0009).
/// </summary>
public sealed class TokenEmbedding : IDisposable
{
    private readonly Parameter _weight;

    /// <summary>Allocates the table [V, D], uninitialised.</summary>
    public TokenEmbedding(ModelConfig config, IDevice device)
    {
        Parameters = new(device, "embedding", gradientBanks: 2);
        _weight = Parameters.Add("model.embed_tokens.weight", new(config.VocabSize, config.HiddenSize));
    }

    /// <summary>The table.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>Rows of the table: [T, D].</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="ids">Int32 [T].</param>
    public Tensor Forward(IKernels kernels, Arena arena, Tensor ids)
    {
        Tensor output = arena.Allocate((int)ids.Count, _weight.Shape.D1);
        kernels.GatherRows(_weight.Value, ids, default, output);
        return output;
    }

    /// <summary>Adds the gradients of a micro-batch to the rows of the table's gradient, in the slot's bank.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="slot">The micro-batch.</param>
    /// <param name="ids">Int32 [T].</param>
    /// <param name="gradients">[T, D] each: of the stage's input, and of what MTP read; the latter may be empty.</param>
    public void BackwardWeight(IKernels kernels, long slot, Tensor ids, StageActivations gradients)
    {
        Parameters.SelectGradients(slot);
        kernels.EmbeddingBackward(gradients.Hidden, ids, _weight.Gradient);
        if (!gradients.Embeddings.IsEmpty)
        {
            kernels.EmbeddingBackward(gradients.Embeddings, ids, _weight.Gradient);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Parameters.Dispose();
}
