using Krewe.Model.Kernels;
using Krewe.Model.Layers;

namespace Krewe.Model.Training;

/// <summary>Square of one parameter's gradient norm.</summary>
/// <param name="Name">Checkpoint name.</param>
/// <param name="SumOfSquares">In float64, summed in a fixed order.</param>
public readonly record struct GradientNorm(string Name, double SumOfSquares);

/// <summary>AdamW over a set of parameters, and the global norm over sets.</summary>
public static class Optimizer
{
    /// <summary>Squared gradient norms of a set, its banks summed.</summary>
    public static void Norms(IKernels kernels, ParameterSet parameters, ICollection<GradientNorm> norms)
    {
        parameters.MergeGradients(kernels);
        foreach (Parameter parameter in parameters.All)
        {
            norms.Add(new(parameter.Name, kernels.SumOfSquares(parameter.Gradient)));
        }
    }

    /// <summary>
    /// One step of every parameter of the set; its gradients become zero. A step that was applied already is not applied
    /// again.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="parameters">The set.</param>
    /// <param name="rates">Rates; norm scales do not decay.</param>
    public static void Apply(IKernels kernels, ParameterSet parameters, in AdamWStep rates)
    {
        if (rates.Step <= parameters.AppliedStep)
        {
            return;
        }

        parameters.MergeGradients(kernels);
        kernels.AdamW(
            [
                .. parameters.All.Select(parameter => new AdamWParameter(
                    parameter.Value, parameter.Gradient, parameter.FirstMoment, parameter.SecondMoment,
                    parameter.Decays)),
            ],
            rates);
        kernels.Fill(parameters.GradientBanks[0], 0);
        parameters.AppliedStep = rates.Step;
    }

    /// <summary>The global norm: squares summed in ordinal order of the names, so that owners do not matter.</summary>
    public static double GlobalNorm(IEnumerable<GradientNorm> norms) =>
        Math.Sqrt(norms.OrderBy(norm => norm.Name, StringComparer.Ordinal).Sum(norm => norm.SumOfSquares));
}
