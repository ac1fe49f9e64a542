using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Where parameter values come from: a checkpoint, or a seed.</summary>
public interface IParameterSource
{
    /// <summary>Writes the values of a parameter or bias buffer.</summary>
    /// <param name="name">Released checkpoint name.</param>
    /// <param name="shape">Expected shape.</param>
    /// <param name="destination">All elements, row-major.</param>
    void Read(string name, TensorShape shape, Span<float> destination);
}
