using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The embedding table.</summary>
/// <param name="weight">[V, D].</param>
public sealed class TokenEmbedding(Parameter weight)
{
    /// <summary>Rows of the table: [T, D].</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="ids">Int32 [T].</param>
    public Tensor Forward(IKernels kernels, Arena arena, Tensor ids)
    {
        Tensor output = arena.Allocate((int)ids.Count, weight.Shape.D1);
        kernels.GatherRows(weight.Value, ids, default, output);
        return output;
    }

    /// <summary>Adds gradOutput [T, D] to the rows of the table's gradient.</summary>
    public void BackwardWeight(IKernels kernels, Tensor ids, Tensor gradOutput) =>
        kernels.EmbeddingBackward(gradOutput, ids, weight.Gradient);
}
