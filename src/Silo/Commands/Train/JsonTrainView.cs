using System.Text.Json.Nodes;
using Krewe.Grains.Interfaces.Training;

namespace Krewe.Silo.Commands.Train;

/// <summary>A run for a program: one JSON object a line, each with an <c>event</c>.</summary>
/// <param name="terminal">Where to write.</param>
internal sealed class JsonTrainView(Terminal terminal) : ITrainView
{
    /// <inheritdoc/>
    public void Preparing(string what)
    {
    }

    /// <inheritdoc/>
    public void Started(TrainPlan plan, RunStarted started) => Write("started", new()
    {
        ["run"] = plan.Name,
        ["model"] = plan.ModelName,
        ["parameters"] = started.Parameters,
        ["corpus"] = started.Corpus,
        ["documents"] = started.Documents,
        ["training_tokens"] = started.TrainingTokens,
        ["held_out_tokens"] = started.HeldOutTokens,
        ["first_step"] = started.FirstStep,
        ["steps"] = started.Steps,
        ["notice"] = started.Notice,
        ["experts_of_silo"] = new JsonObject(
            started.ExpertsOfSilo.Select(silo => KeyValuePair.Create(silo.Key, (JsonNode?)silo.Value))),
    });

    /// <inheritdoc/>
    public async Task FollowAsync(IAsyncEnumerable<RunEvent> events, TrainTracker run)
    {
        await foreach (RunEvent happened in events)
        {
            run.Apply(happened);
            switch (happened)
            {
                case StepCommitted step:
                    Write("step", Step(step));
                    break;
                case RunRecovered recovered:
                    Write("recovered", new()
                    {
                        ["from_step"] = recovered.FromStep,
                        ["to_step"] = recovered.ToStep,
                        ["seconds"] = Json.Number(recovered.Seconds),
                        ["reason"] = recovered.Reason,
                        ["silos"] = new JsonArray([.. recovered.Silos.Select(silo => (JsonNode?)silo)]),
                    });
                    break;
                case RunMoved moved:
                    Write("moved", new()
                    {
                        ["step"] = moved.Step,
                        ["seconds"] = Json.Number(moved.Seconds),
                        ["silos"] = new JsonArray([.. moved.Silos.Select(silo => (JsonNode?)silo)]),
                    });
                    break;
                case Evaluated evaluated:
                    Write("evaluated", Evaluation(evaluated));
                    break;
                case CheckpointWritten written:
                    Write("checkpoint", new()
                    {
                        ["step"] = written.Step,
                        ["folder"] = written.Folder,
                        ["bytes"] = written.Bytes,
                    });
                    break;
            }
        }
    }

    /// <inheritdoc/>
    public void Stopping() => Write("stopping", []);

    /// <inheritdoc/>
    public void Finished(TrainPlan plan, TrainTracker run, TimeSpan time, TrainSample? sample) => Write("finished", new()
    {
        ["step"] = run.Step,
        ["stopped"] = run.End is RunFinished { Stopped: true },
        ["checkpoint"] = run.Checkpoint?.Folder,
        ["held_out_loss"] = Json.Number(run.LastEvaluation?.Loss ?? double.NaN),
        ["held_out_nats_per_byte"] = Json.Number(run.LastEvaluation?.NatsPerByte ?? double.NaN),
        ["max_violation"] = Json.Number(run.MaxViolation),
        ["tokens_per_second"] = Json.Number(run.MeanRate),
        ["seconds"] = Json.Number(time.TotalSeconds),
        ["median_step_seconds"] = Json.Number(run.MedianSeconds),
        ["operations_per_token"] = run.Devices?.OperationsPerToken,
        ["model_flop_utilization"] = run.Last is { } last ? run.Devices?.Utilization(last.Tokens, run.MedianSeconds) : null,
        ["peak_device_bytes"] = run.Devices?.PeakBytes,
        ["sample"] = sample is null ? null : sample.Prompt + sample.Continuation,
    });

    private static JsonObject Step(StepCommitted step) => new()
    {
        ["step"] = step.Report.Step + 1,
        ["loss"] = Json.Number(step.Report.MainLoss),
        ["mtp_losses"] = new JsonArray([.. step.Report.MtpLosses.Select(Json.Number)]),
        ["total_loss"] = Json.Number(step.Report.TotalLoss),
        ["balance_loss"] = Json.Number(step.Report.BalanceLoss),
        ["gradient_norm"] = Json.Number(step.Report.GradientNorm),
        ["learning_rate"] = Json.Number(step.Report.LearningRate),
        ["max_violation"] = Json.Number(step.Report.MaxViolation),
        ["tokens"] = step.Report.Tokens,
        ["seconds"] = Json.Number(step.Seconds),
    };

    private static JsonObject Evaluation(Evaluated result) => new()
    {
        ["step"] = result.Step,
        ["loss"] = Json.Number(result.Loss),
        ["nats_per_byte"] = Json.Number(result.NatsPerByte),
        ["mtp_loss"] = Json.Number(result.MtpLoss ?? double.NaN),
        ["mtp_agreement"] = Json.Number(result.MtpAgreement ?? double.NaN),
        ["tokens"] = result.Tokens,
    };

    private void Write(string name, JsonObject node)
    {
        node.Insert(0, "event", name);
        Json.Write(terminal.Out, node);
    }
}
