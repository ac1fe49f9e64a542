using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>The way of a source's values into tensors.</summary>
public static class ParameterSourceReading
{
    /// <summary>Writes the values of a parameter or bias buffer into its tensor; to be called inside submitted work.</summary>
    /// <param name="source">Where the values come from.</param>
    /// <param name="kernels">Kernels of the tensor's device.</param>
    /// <param name="name">Released checkpoint name.</param>
    /// <param name="destination">Dense, of the parameter's shape.</param>
    public static void Read(this IParameterSource source, IKernels kernels, string name, Tensor destination) =>
        kernels.Write(
            destination, (Source: source, Name: name, destination.Shape),
            static (values, state) => state.Source.Read(state.Name, state.Shape, values));
}
