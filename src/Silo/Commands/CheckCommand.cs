using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Krewe.Model.Checkpoints;
using Krewe.Model.Evaluation;
using Krewe.Silo.Hosting;
using Spectre.Console;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe check</c>: a model against a reference, tensor by tensor.</summary>
internal static class CheckCommand
{
    private const int ShownRows = 12;
    private const double UsualTolerance = 2e-4;

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string> model = SharedOptions.Model();
        var against = new Option<string>("--against")
        {
            Description = "reference.safetensors with inputs and expected tensors",
            HelpName = "FILE",
            Required = true,
        };
        var gradients = new Option<bool>("--gradients") { Description = "Also compare the gradients" };
        var tolerance = SharedOptions.AtLeast(0.0, new Option<double>("--tolerance")
        {
            Description = "Largest difference of a logit or hidden state; half of it is allowed for a loss, five times " +
                "for a gradient relative to its norm",
            HelpName = "X",
            DefaultValueFactory = _ => UsualTolerance,
        });
        Option<int> silos = SharedOptions.Silos();
        Option<int> stages = SharedOptions.Stages(1);
        Option<int> threads = SharedOptions.CpuThreads();
        Option<DeviceName[]> devices = SharedOptions.Devices();
        Option<string> precision = SharedOptions.Precision();
        Option<bool> json = SharedOptions.Json("The summary as one JSON object");
        var command = new ToolCommand(
            "check", "Compares logits, hidden states, routing, losses and gradients with a reference; exit code 1 past " +
            "the tolerance.",
            "krewe check MODEL --against MODEL/reference.safetensors --gradients",
            "krewe check MODEL --against reference.safetensors --silos 2 --json",
            "krewe check MODEL --against MODEL/reference.safetensors --device cuda:0")
        {
            model, against, gradients, tolerance, silos, stages, threads, devices, precision, json,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            using ModelFolder folder = ModelFolder.Open(parsed.GetRequiredValue(model));
            using SafetensorsFile reference = SafetensorsFile.Open(parsed.GetRequiredValue(against));
            if (folder.Notice is { } notice)
            {
                terminal.Notice(notice);
            }

            int positions = ReferenceCheck.ReadBatch(reference, folder.Config).SequenceStarts[1];
            var request = new LoadRequest(
                parsed.GetValue(silos), parsed.GetValue(stages), parsed.GetValue(threads), positions, Training: true,
                parsed.GetValue<bool>("--verbose"), parsed.GetValue(precision)!, parsed.GetValue(devices));
            await using LoadedModel loaded = await LoadedModel.OpenAsync(folder.Origin, request, cancellation);
            double limit = parsed.GetValue(tolerance);
            CheckReport report = await ReferenceCheck.RunAsync(
                loaded.Model, folder.Config, reference, parsed.GetValue(gradients), new(limit, limit / 2, limit * 5));
            if (parsed.GetValue(json))
            {
                Json.Write(terminal.Out, ToJson(report));
            }
            else
            {
                Print(terminal, report);
            }

            return report.Passed ? ExitCode.Fine : ExitCode.Failed;
        });
        return command;
    }

    private static JsonObject ToJson(CheckReport report)
    {
        var node = new JsonObject
        {
            ["passed"] = report.Passed,
            ["logits_max_abs"] = Json.Number(report.LogitsMaxAbs),
            ["expert_choices_equal"] = report.ExpertChoicesEqual,
            ["loss_max_abs"] = Json.Number(report.LossMaxAbs),
        };
        if (report.LogitsMaxAbsSameChoices is { } same)
        {
            node["logits_max_abs_same_choices"] = Json.Number(same);
        }

        if (report.GradientsMaxRelative is { } gradients)
        {
            node["gradients_max_rel"] = Json.Number(gradients);
        }

        return node;
    }

    private static void Print(Terminal terminal, CheckReport report)
    {
        CheckRow[] worst = [.. report.Rows.OrderByDescending(Badness)];
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("tensor", "measure", "difference", "limit", "");
        foreach (CheckRow row in worst.Take(Math.Max(ShownRows, report.Rows.Count(row => !row.Passed))))
        {
            table.AddRow(
                Markup.Escape(row.Name), row.Measure, Text(row.Difference), Text(row.Limit),
                row.Passed ? "" : "[red]FAILED[/]");
        }

        int failed = report.Rows.Count(row => !row.Passed);
        int hidden = report.Rows.Count - table.Rows.Count;
        terminal.Console.Write(table);
        terminal.Out.WriteLine(hidden > 0 ? $"and {hidden} tensors that are closer" : "all compared tensors are shown");
        terminal.Out.WriteLine(
            $"logits differ by at most {Text(report.LogitsMaxAbs)}, losses by {Text(report.LossMaxAbs)}" +
            (report.GradientsMaxRelative is { } g ? $", gradients by {Text(g)} of their norm" : "") +
            $"; expert choices {(report.ExpertChoicesEqual ? "equal" : "DIFFER")}");
        if (report.LogitsMaxAbsSameChoices is { } same)
        {
            string tokens = report.OtherChoices == 1 ? "1 token" : $"{report.OtherChoices} tokens";
            terminal.Out.WriteLine($"{tokens} chose other experts; the logits of all others differ by at most {Text(same)}");
        }

        terminal.Out.WriteLine(failed == 0
            ? $"passed: {report.Rows.Count} tensors within their limits"
            : $"FAILED: {failed} of {report.Rows.Count} tensors past their limits");
    }

    private static double Badness(CheckRow row) =>
        row.Passed ? row.Difference / Math.Max(row.Limit, 1e-300) : double.PositiveInfinity;

    private static string Text(double value) => value == 0 ? "0" : value.ToString("0.0e+0", CultureInfo.InvariantCulture);
}
