using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.TestSupport;

/// <summary>Gradients of a whole model, by name of the parameter.</summary>
public static class ModelGradients
{
    /// <summary>Forward and backward of one micro-batch; the weight gradients with the backward, or behind it.</summary>
    /// <param name="model">Prepared for training.</param>
    /// <param name="batch">The micro-batch.</param>
    /// <param name="deferred">Takes all weight gradients when the whole backward is done.</param>
    public static async Task<Dictionary<string, float[]>> OfAsync(LocalModel model, MicroBatch batch, bool deferred)
    {
        ForwardOptions options = new Trainer(model, model.Config, new()).Options([batch], ForwardMode.Training);
        StageActivations activations = default, gradients = default;
        foreach (ModelStage stage in model.Stages)
        {
            activations = await stage.ForwardAsync(new(0, 0), batch, activations, options);
        }

        foreach (ModelStage stage in model.Stages.Reverse())
        {
            gradients = await stage.BackwardAsync(new(0, 0), gradients, weightGradients: !deferred);
        }

        foreach (ModelStage stage in deferred ? model.Stages.Reverse() : [])
        {
            await stage.BackwardWeightAsync(new(0, 0));
        }

        var result = new Dictionary<string, float[]>();
        foreach (Parameter parameter in model.ParameterSets.SelectMany(set => set.All))
        {
            result.Add(parameter.Name, await model.ReadGradientAsync(parameter.Name));
        }

        return result;
    }

    /// <summary>Norm of the difference by the norm of what is expected.</summary>
    public static double Difference(
        IReadOnlyDictionary<string, float[]> expected, IReadOnlyDictionary<string, float[]> actual)
    {
        double error = 0, size = 0;
        foreach ((string name, float[] values) in expected)
        {
            float[] others = actual[name];
            for (int i = 0; i < values.Length; i++)
            {
                error += Math.Pow(values[i] - (double)others[i], 2);
                size += Math.Pow(values[i], 2);
            }
        }

        return Math.Sqrt(error / size);
    }
}
