using Krewe.Model.Balancing;
using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;

namespace Krewe.Model.Training;

/// <summary>What one optimizer step did.</summary>
/// <param name="Step">Step number, from 0.</param>
/// <param name="MainLoss">Mean cross-entropy before the update, nats per token.</param>
/// <param name="MtpLosses">The same for each MTP depth.</param>
/// <param name="TotalLoss">main + lambda / depths * sum of the MTP losses; the balance loss is not part of it.</param>
/// <param name="BalanceLoss">Mean over MoE layers and micro-batches, before alpha.</param>
/// <param name="GradientNorm">Global norm before clipping.</param>
/// <param name="LearningRate">Rate of this step.</param>
/// <param name="MaxViolation">MaxVio of the global batch, mean over MoE layers.</param>
/// <param name="Loads">Tokens per expert of each MoE layer.</param>
/// <param name="Tokens">Tokens of the global batch.</param>
public sealed record StepReport(
    long Step, double MainLoss, double[] MtpLosses, double TotalLoss, double BalanceLoss, double GradientNorm,
    double LearningRate, double MaxViolation, IReadOnlyDictionary<int, long[]> Loads, int Tokens);

/// <summary>A step whose gradients are complete and whose parameters have not moved yet.</summary>
/// <param name="Report">What the step did, and will have done.</param>
/// <param name="Rates">What AdamW is to be told.</param>
public sealed record PreparedStep(StepReport Report, AdamWStep Rates);

/// <summary>One optimizer step over a pipeline: the loop that a cluster and a single process share.</summary>
/// <param name="pipeline">Stages and experts.</param>
/// <param name="model">The model.</param>
/// <param name="config">The recipe.</param>
public sealed class Trainer(ITrainingPipeline pipeline, ModelConfig model, TrainingConfig config)
{
    private readonly LearningRateSchedule _schedule = new(config.LearningRate, config.WarmupSteps, config.Steps);

    /// <summary>Runs a step over the micro-batches of one global batch.</summary>
    public async Task<StepReport> StepAsync(long step, IReadOnlyList<MicroBatch> batch)
    {
        PreparedStep prepared = await PrepareAsync(step, batch);
        await FinishAsync(prepared);
        return prepared.Report;
    }

    /// <summary>
    /// Everything of a step that changes no parameter: forward, backward, norms. May be given up and done again.
    /// </summary>
    public async Task<PreparedStep> PrepareAsync(long step, IReadOnlyList<MicroBatch> batch)
    {
        ForwardOptions options = Options(batch, ForwardMode.Training);
        IReadOnlyList<MicroBatchReport> reports = await pipeline.RunStepAsync(step, batch, options);
        double norm = Optimizer.GlobalNorm(await pipeline.GradientNormsAsync());
        double rate = _schedule.At(step);
        // PyTorch's clip_grad_norm_: the factor is max / (norm + 1e-6), and at most 1.
        double clip = config.ClipNorm > 0 ? Math.Min(1, config.ClipNorm / (norm + 1e-6)) : 1;
        var rates = new AdamWStep(
            (float)rate, (float)config.Beta1, (float)config.Beta2, (float)config.Epsilon, (float)config.WeightDecay,
            checked((int)step + 1), (float)clip);
        return new(Summarize(step, batch, reports, SumLoads(reports), norm, rate), rates);
    }

    /// <summary>The rest: AdamW everywhere, then the routing biases. Doing it twice does it once.</summary>
    public async Task FinishAsync(PreparedStep prepared)
    {
        await pipeline.ApplyAsync(prepared.Rates);
        if (model.HasRoutingBias)
        {
            // Also with a speed of zero: edits by hand reach the stages on this way.
            await pipeline.UpdateBiasesAsync(prepared.Report.Step, prepared.Report.Loads, (float)config.BiasUpdateSpeed);
        }
    }

    /// <summary>Loss scales of a global batch.</summary>
    public ForwardOptions Options(IReadOnlyList<MicroBatch> batch, ForwardMode mode)
    {
        int depths = model.NumNextnPredictLayers;
        var mtp = new double[depths];
        for (int depth = 1; depth <= depths; depth++)
        {
            mtp[depth - 1] = config.MtpLossWeight / depths / Math.Max(1, batch.Sum(part => part.TargetCount(depth)));
        }

        int units = config.BalanceLossScope == BalanceLossScope.Sequence
            ? batch.Sum(part => part.SequenceStarts.Length - 1)
            : batch.Count;
        double alpha = config.BalanceLossAlpha ?? model.SequenceBalanceAlpha;
        return new(
            mode, 1.0 / Math.Max(1, batch.Sum(part => part.TargetCount(0))), mtp,
            new(alpha, config.BalanceLossScope, units));
    }

    private StepReport Summarize(
        long step, IReadOnlyList<MicroBatch> batch, IReadOnlyList<MicroBatchReport> reports, Dictionary<int, long[]> loads,
        double norm, double rate)
    {
        double main = reports.Sum(report => report.Losses.MainSum)
            / Math.Max(1, reports.Sum(report => report.Losses.MainCount));
        var mtp = new double[model.NumNextnPredictLayers];
        for (int depth = 0; depth < mtp.Length; depth++)
        {
            mtp[depth] = reports.Sum(report => report.Losses.MtpSums[depth])
                / Math.Max(1, reports.Sum(report => report.Losses.MtpCounts[depth]));
        }

        double total = main + (mtp.Length > 0 ? config.MtpLossWeight / mtp.Length * mtp.Sum() : 0);
        double[] balance = [.. reports.SelectMany(report => report.Loads).Select(load => load.BalanceLoss)];
        double violation = loads.Count == 0 ? 0 : loads.Values.Average(load => ExpertLoad.MaxViolation(load));
        return new(
            step, main, mtp, total, balance.Length == 0 ? 0 : balance.Average(), norm, rate, violation, loads,
            batch.Sum(part => part.Tokens.Length));
    }

    private static Dictionary<int, long[]> SumLoads(IReadOnlyList<MicroBatchReport> reports)
    {
        var loads = new Dictionary<int, long[]>();
        foreach (LayerLoad load in reports.SelectMany(report => report.Loads))
        {
            if (!loads.TryGetValue(load.Layer, out long[]? sums))
            {
                loads.Add(load.Layer, sums = new long[load.Load.Length]);
            }

            for (int expert = 0; expert < sums.Length; expert++)
            {
                sums[expert] += load.Load[expert];
            }
        }

        return loads;
    }
}
