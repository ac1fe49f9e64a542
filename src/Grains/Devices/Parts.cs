using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>Picks the tensor that a <see cref="ParameterPart"/> names.</summary>
internal static class Parts
{
    public static Tensor Of(Parameter parameter, ParameterPart part) => part switch
    {
        ParameterPart.Value => parameter.Value,
        ParameterPart.Gradient => parameter.Gradient,
        ParameterPart.FirstMoment => parameter.FirstMoment,
        ParameterPart.SecondMoment => parameter.SecondMoment,
        _ => throw new ArgumentOutOfRangeException(nameof(part), part, "no such part of a parameter"),
    };
}
