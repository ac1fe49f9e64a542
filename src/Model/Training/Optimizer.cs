using System.Runtime.InteropServices;
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
    /// One step of every parameter of the sets, in one launch; their gradients become zero, and casts of the weights that
    /// were in use are made anew. A step that a set has had already is not applied to it again.
    /// </summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="sets">The sets.</param>
    /// <param name="rates">Rates; norm scales do not decay.</param>
    public static void Apply(IKernels kernels, IEnumerable<ParameterSet> sets, AdamWStep rates)
    {
        ParameterSet[] due = [.. sets.Where(set => rates.Step > set.AppliedStep).Distinct()];
        foreach (ParameterSet set in due)
        {
            set.MergeGradients(kernels);
        }

        kernels.AdamW(
            [
                .. due.SelectMany(set => set.All).Select(parameter => new AdamWParameter(
                    parameter.Value, parameter.Gradient, parameter.FirstMoment, parameter.SecondMoment,
                    parameter.Decays, parameter.Cast?.Rounded ?? default)),
            ],
            rates);
        var tiles = new List<QuantizedCopies>();
        foreach (ParameterSet set in due)
        {
            set.AppliedStep = rates.Step;
            foreach (Parameter parameter in set.All)
            {
                parameter.Cast?.Follow(tiles);
            }
        }

        kernels.QuantizeMany(CollectionsMarshal.AsSpan(tiles));
    }

    /// <summary>The global norm: squares summed in ordinal order of the names, so that owners do not matter.</summary>
    public static double GlobalNorm(IEnumerable<GradientNorm> norms) =>
        Math.Sqrt(norms.OrderBy(norm => norm.Name, StringComparer.Ordinal).Sum(norm => norm.SumOfSquares));
}
