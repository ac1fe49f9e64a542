using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>What a tensor does in the model; decides initial value, weight decay, precision and owner.</summary>
public enum TensorRole
{
    /// <summary>The embedding table [V, D].</summary>
    Embedding,

    /// <summary>A norm's gain, a vector.</summary>
    Norm,

    /// <summary>A projection of the attention block.</summary>
    Attention,

    /// <summary>A projection of a dense MLP.</summary>
    FeedForward,

    /// <summary>The gate's matrix [E, D].</summary>
    Router,

    /// <summary>The gate's bias [E]: float32, a buffer and no parameter, never converted to another type.</summary>
    RouterBias,

    /// <summary>A projection of the shared expert.</summary>
    SharedExpert,

    /// <summary>A projection of a routed expert.</summary>
    Expert,

    /// <summary>MTP's <c>eh_proj</c> [D, 2 D]: input is [embedding; hidden].</summary>
    MtpProjection,

    /// <summary>The output head [V, D].</summary>
    Head,

    /// <summary>A copy of another tensor that released files carry; see <see cref="TensorSpec.Source"/>.</summary>
    Duplicate,
}

/// <summary>One tensor of a model in its released name.</summary>
/// <param name="Name">Name in the checkpoint.</param>
/// <param name="Shape">Extent; matrices are [outputs, inputs].</param>
/// <param name="Role">What it does.</param>
/// <param name="Layer">Layer index, MTP layers following the others; -1 outside the layers.</param>
/// <param name="Expert">Index of the routed expert; -1 otherwise.</param>
/// <param name="Source">Of a <see cref="TensorRole.Duplicate"/> the name of the original; null otherwise.</param>
public sealed record TensorSpec(
    string Name, TensorShape Shape, TensorRole Role, int Layer = -1, int Expert = -1, string? Source = null)
{
    /// <summary>Trained, counted, and part of the gradient norm.</summary>
    public bool IsParameter => Role is not (TensorRole.RouterBias or TensorRole.Duplicate);
}
