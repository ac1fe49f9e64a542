using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>Parameters from a checkpoint, converted to float32 straight into their place.</summary>
/// <param name="reader">The open checkpoint; not disposed here.</param>
public sealed class CheckpointParameters(CheckpointReader reader) : IParameterSource
{
    /// <inheritdoc/>
    public void Read(string name, TensorShape shape, Span<float> destination)
    {
        if (!reader.Contains(name) && name.EndsWith("e_score_correction_bias", StringComparison.Ordinal))
        {
            // A checkpoint without biases routes by the plain scores.
            destination.Clear();
            return;
        }

        reader.ReadFloat32(name, destination);
    }
}
