using Krewe.Grains.Interfaces.Training;
using Spectre.Console;

namespace Krewe.Silo.Commands.Train;

/// <summary>A run for a person: header, progress, results. Without a live terminal, plain lines now and then.</summary>
/// <param name="terminal">Where to show it.</param>
internal sealed class ConsoleTrainView(Terminal terminal) : ITrainView
{
    private const int StepsPerLine = 25;
    private const int StatusWidth = 76;

    private bool _saves = true;

    /// <inheritdoc/>
    public void Preparing(string what) => Say(what);

    /// <inheritdoc/>
    public void Started(TrainPlan plan, RunStarted started)
    {
        _saves = !plan.Request.WithoutCheckpoint;
        if (started.Notice is { } notice)
        {
            terminal.Notice(notice);
        }

        var grid = new Grid().AddColumn(new GridColumn().NoWrap().PadRight(2)).AddColumn();
        foreach ((string label, string text) in TrainHeader.Lines(plan, started))
        {
            grid.AddRow($"[bold]{label}[/]", Markup.Escape(text));
        }

        terminal.Console.Write(grid);
        terminal.Console.WriteLine();
    }

    /// <inheritdoc/>
    public Task FollowAsync(IAsyncEnumerable<RunEvent> events, TrainTracker run) =>
        terminal.IsLive ? FollowLiveAsync(events, run) : FollowPlainAsync(events, run);

    /// <inheritdoc/>
    public void Stopping() => Say(_saves
        ? "stopping after this step, with a checkpoint; Ctrl-C again ends at once, without one"
        : "stopping after this step; Ctrl-C again ends at once");

    /// <inheritdoc/>
    public void Finished(TrainPlan plan, TrainTracker run, TimeSpan time, TrainSample? sample)
    {
        terminal.Console.WriteLine();
        terminal.Console.Write(TrainResults.Table(run, time));
        if (sample is not null)
        {
            string prompt = sample.Prompt.Length > 0 ? $"after \"{sample.Prompt}\"" : "a new document";
            terminal.Out.WriteLine($"sample, {prompt}:");
            terminal.Out.WriteLine($"  {sample.Prompt}{TrainText.Shown(sample.Continuation)}".ReplaceLineEndings("\n  "));
            terminal.Out.WriteLine();
        }

        if (run.Checkpoint is { } checkpoint)
        {
            string folder = TrainText.Quoted(TrainText.Relative(checkpoint.Folder));
            terminal.Out.WriteLine($"go on: {TrainText.Program} generate {folder} --prompt \"Gets the\" --temperature 0.7");
            if (run.Step < run.Steps)
            {
                string target = TrainText.Quoted(TrainText.Relative(plan.Request.Folder));
                terminal.Out.WriteLine(
                    $"resume: {TrainText.Program} train --output {target} --resume (with the same --data and --tokenizer)");
            }
        }
    }

    private async Task FollowPlainAsync(IAsyncEnumerable<RunEvent> events, TrainTracker run)
    {
        await foreach (RunEvent happened in events)
        {
            run.Apply(happened);
            Mention(happened);
            if (happened is StepCommitted && (run.Step % StepsPerLine == 0 || run.Step == run.Steps))
            {
                terminal.Out.WriteLine(TrainText.Step(run));
            }
        }
    }

    private Task FollowLiveAsync(IAsyncEnumerable<RunEvent> events, TrainTracker run)
    {
        int bar = Math.Clamp(terminal.Console.Profile.Width - StatusWidth, 8, 40);
        return terminal.Console.Progress().AutoClear(true).AutoRefresh(true)
            .Columns(
                new ProgressBarColumn { Width = bar },
                new TaskDescriptionColumn { Alignment = Justify.Left })
            .StartAsync(async context =>
            {
                ProgressTask task = context.AddTask("first evaluation", maxValue: Math.Max(1, run.Steps));
                task.Value = run.Step;
                await foreach (RunEvent happened in events)
                {
                    run.Apply(happened);
                    Mention(happened);
                    task.Description = Markup.Escape(
                        run.Step == run.Steps ? "checkpoint and last evaluation" : TrainText.Step(run));
                    task.Value = run.Step;
                }
            });
    }

    private void Mention(RunEvent happened)
    {
        string? line = happened switch
        {
            Evaluated evaluated => TrainText.Evaluation(evaluated),
            CheckpointWritten written => TrainText.Checkpoint(written),
            RunRecovered recovered => TrainText.Recovery(recovered),
            RunMoved moved => TrainText.Move(moved),
            RunFinished { Stopped: true } stopped => $"stopped after step {stopped.Step}",
            _ => null,
        };
        if (line is not null)
        {
            Say(line);
        }
    }

    /// <summary>A line above the progress bar, where there is one.</summary>
    private void Say(string line)
    {
        if (terminal.IsLive)
        {
            terminal.Console.MarkupLine($"[grey]{Markup.Escape(line)}[/]");
        }
        else
        {
            terminal.Out.WriteLine(line);
        }
    }
}
