using Krewe.Grains.Interfaces.Training;
using Spectre.Console;

namespace Krewe.Silo.Commands.Train;

/// <summary>The table at the end of a run.</summary>
internal static class TrainResults
{
    /// <summary>The figures of a run.</summary>
    public static Table Table(TrainTracker run, TimeSpan time)
    {
        var table = new Table { Border = TableBorder.Rounded };
        table.AddColumn("result");
        table.AddColumn(new TableColumn("value").RightAligned());
        Row(table, "steps", run.Step < run.Steps ? $"{run.Step} of {run.Steps}" : $"{run.Step}");
        if (run.LastEvaluation is { } last)
        {
            Evaluated first = run.FirstEvaluation!;
            Row(table, "held-out loss, nats per byte", Change(first.NatsPerByte, last.NatsPerByte));
            Row(table, "held-out loss, nats per token", Change(first.Loss, last.Loss));
            if (last.MtpLoss is { } mtp)
            {
                Row(table, "held-out MTP loss, nats per token", Change(first.MtpLoss ?? double.NaN, mtp));
            }

            if (last.MtpAgreement is { } agreement)
            {
                Row(table, "MTP agrees with the main head", $"{agreement:P1}");
            }
        }

        if (run.Last is { } step)
        {
            Row(table, "MaxVio, mean of the last 20 steps", $"{run.MaxViolation:F3}");
            Row(table, "gradient norm of the last step", $"{step.GradientNorm:F3}");
            Row(table, "tokens/s", $"{run.MeanRate:F0}");
            Row(table, "time in steps", TrainText.Clock(run.StepTime));
            if (run.Devices is { } devices)
            {
                Row(table, "device memory in use at most", TrainText.Size(devices.PeakBytes));
                Row(table, "model operations a token, usual count", $"{devices.OperationsPerToken / 1e9:F2}e9");
                if (devices.Utilization(step.Tokens, run.MedianSeconds) is { } share)
                {
                    Row(table, "model FLOP utilisation, median of the last 20 steps", $"{share:P1}");
                }
            }
        }

        Row(table, "time from start to end", TrainText.Clock(time));
        if (run.Checkpoint is { } checkpoint)
        {
            Row(table, "checkpoint", TrainText.Relative(checkpoint.Folder));
            Row(table, "its size, with the state to resume from", TrainText.Size(checkpoint.Bytes));
        }

        return table;
    }

    private static void Row(Table table, string name, string value) => table.AddRow(name, Markup.Escape(value));

    private static string Change(double first, double last) =>
        first.Equals(last) ? $"{last:F3}" : $"{first:F3} -> {last:F3}";
}
