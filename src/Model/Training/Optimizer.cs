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
    /// <summary>Squared gradient norms of sets, their banks summed.</summary>
    public static void Norms(IKernels kernels, IEnumerable<ParameterSet> sets, ICollection<GradientNorm> norms)
    {
        var parameters = new List<Parameter>();
        foreach (ParameterSet set in sets)
        {
            set.MergeGradients(kernels);
            parameters.AddRange(set.All);
        }

        var sums = new double[parameters.Count];
        kernels.SumsOfSquares([.. parameters.Select(parameter => parameter.Gradient)], sums);
        for (int i = 0; i < sums.Length; i++)
        {
            norms.Add(new(parameters[i].Name, sums[i]));
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
        parameters.ZeroGradients(kernels);
        parameters.AppliedStep = rates.Step;
    }

    /// <summary>The global norm: squares summed in ordinal order of the names, so that owners do not matter.</summary>
    public static double GlobalNorm(IEnumerable<GradientNorm> norms) =>
        Math.Sqrt(norms.OrderBy(norm => norm.Name, StringComparer.Ordinal).Sum(norm => norm.SumOfSquares));
}
