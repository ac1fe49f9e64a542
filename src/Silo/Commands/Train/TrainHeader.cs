using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Krewe.Model.Precision;

namespace Krewe.Silo.Commands.Train;

/// <summary>What a run is about, in a few lines before it begins.</summary>
internal static class TrainHeader
{
    /// <summary>Label and text of each line.</summary>
    public static IEnumerable<(string Label, string Text)> Lines(TrainPlan plan, RunStarted started)
    {
        ModelConfig model = plan.Model;
        TrainingConfig recipe = plan.Recipe;
        ParameterCounts counts = ParameterCounts.Of(model);
        yield return ("model", $"{plan.ModelName}: {TrainText.Count(started.Parameters)} parameters, " +
            $"{TrainText.Count(counts.Active)} active per token; {model.NumHiddenLayers} layers" +
            (model.NumNextnPredictLayers > 0 ? $" + {model.NumNextnPredictLayers} MTP" : ""));
        yield return ("experts", model.NRoutedExperts == 0
            ? "none: a dense model"
            : $"{model.NRoutedExperts} per layer, {model.NumExpertsPerTok} chosen, {model.NSharedExperts} shared; grains: " +
              string.Join(", ", started.ExpertsOfSilo.OrderBy(silo => silo.Key, PlaceName.Order)
                  .Select(silo => $"{silo.Key} {silo.Value}")));
        yield return ("corpus", $"{started.Corpus}: {TrainText.Count(started.Documents)} documents, " +
            $"{TrainText.Count(started.TrainingTokens)} tokens to train on, {TrainText.Count(started.HeldOutTokens)} held out");
        yield return ("recipe", $"{recipe.Steps} steps of {recipe.BatchSize} x {recipe.SequenceLength} tokens" +
            (recipe.MicroBatches > 1 ? $" in {recipe.MicroBatches} micro-batches" : "") +
            (recipe.Precision == PrecisionRecipe.Fp32.Name ? "" : $" in {recipe.Precision}") +
            $", learning rate {recipe.LearningRate:G4}, {plan.Request.Stages} stages, {plan.Request.Method.Name()}, seed {recipe.Seed}");
        yield return ("folder", TrainText.Relative(plan.Request.Folder) +
            (started.FirstStep > 0 ? $", resumed after step {started.FirstStep}" : "") +
            (started.FirstStep >= started.Steps ? ", its last: nothing is left to train" : ""));
    }
}
