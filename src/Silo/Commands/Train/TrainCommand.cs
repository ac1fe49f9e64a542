using System.CommandLine;
using System.Diagnostics;
using System.Text;
using Krewe.Gpu.Driver;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model;
using Krewe.Model.Data;
using Krewe.Model.Generation;
using Krewe.Model.Pipeline;
using Krewe.Model.Tensors;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Train;

/// <summary><c>krewe train</c>: starts an embedded cluster, trains, shows it, and samples the result.</summary>
internal static class TrainCommand
{
    private const int SampleTokens = 240;

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        var options = new TrainOptions();
        var command = new ToolCommand(
            "train",
            "Trains a model, every expert a grain, on an embedded cluster or with --cluster on silos that run already; Ctrl-C ends " +
            "after the step, with a checkpoint.",
            "krewe train",
            "krewe train --data my-texts/ --steps 1000 --run mine --checkpoint-every 200",
            "krewe train --run mine --data my-texts/ --resume",
            "krewe train --silos 4 --schedule dualpipe --timeline step.svg",
            "krewe train --run mine --cluster lab --membership redis --connection 127.0.0.1:6379",
            "krewe train --preset docs-26m --tokenizer tokenizer.json --sequence-length 256 --learning-rate 1e-3",
            "krewe train --bias-update-speed 0 --run unbalanced     (an ablation: experts without balance)");
        options.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            long start = Stopwatch.GetTimestamp();
            TrainPlan plan = TrainPlan.Create(options, parsed);
            foreach (string notice in plan.Notices)
            {
                terminal.Notice(notice);
            }

            string? timeline = parsed.GetValue(options.Timeline);
            if (timeline is not null)
            {
                SvgFile.Ensure(timeline);
            }

            ITrainView view = parsed.GetValue(options.Json) ? new JsonTrainView(terminal) : new ConsoleTrainView(terminal);
            int threads = parsed.GetValue(options.CpuThreads);
            (string where, Func<Task<ITrainingCluster>> open) = ClusterOf(options, parsed, cancellation);
            TrainTracker run = await RunAsync(plan, where, open, view, timeline, cancellation);
            if (timeline is not null)
            {
                terminal.Notice(run.Drawn ? $"last step drawn to {timeline}" : $"{timeline} not drawn: no step was run");
            }

            if (run.End is RunFailed failed)
            {
                Faults.Write(failed.Message, "", terminal);
                return failed.IsUserFault && !Faults.HasLinesBeneath(failed.Message) ? ExitCode.BadInput : ExitCode.Failed;
            }

            TrainSample? sample = cancellation.IsCancellationRequested || run.Checkpoint is null
                ? null
                : await TrySampleAsync(run.Checkpoint.Folder, parsed.GetValue(options.Sample) ?? "", threads,
                    plan.Recipe.Precision, parsed.GetValue(options.Devices)![0], terminal);
            view.Finished(plan, run, Stopwatch.GetElapsedTime(start), sample);
            return ExitCode.Fine;
        });
        return command;
    }

    /// <summary>Where the run shall live: what that means in words, and how to get there.</summary>
    private static (string Where, Func<Task<ITrainingCluster>> Open) ClusterOf(
        TrainOptions options, ParseResult parsed, CancellationToken cancellation)
    {
        bool verbose = parsed.GetValue<bool>("--verbose");
        if (parsed.GetValue(options.Cluster.Cluster) is not null)
        {
            ClusterSettings settings = options.Cluster.Read(parsed);
            if (parsed.GetResult(options.Silos) is { Implicit: false })
            {
                throw new KreweException(
                    "--silos starts silos in this process and --cluster uses those that run already: give one of the two");
            }

            if (parsed.GetResult(options.Devices) is { Implicit: false })
            {
                throw new KreweException("with --cluster, each silo has its own --device: give it to 'krewe silo'");
            }

            return ($"joining cluster '{settings.Cluster}'",
                async () => await ClusterConnection.ConnectAsync(settings, verbose, cancellation));
        }

        var embedded = new EmbeddedClusterOptions
        {
            Silos = options.SilosOf(parsed),
            Devices = parsed.GetValue(options.Devices)!,
            CpuThreads = parsed.GetValue(options.CpuThreads),
            Verbose = verbose,
        };
        DeviceName.ThrowIfMissing(embedded.Devices);
        int devices = embedded.Devices.Count;
        return ($"starting {embedded.Silos} silo{(embedded.Silos == 1 ? "" : "s")}" +
            (devices > embedded.Silos ? $" with {devices} devices" : ""),
            async () => await EmbeddedCluster.StartAsync(embedded, cancellation));
    }

    private static async Task<TrainTracker> RunAsync(
        TrainPlan plan, string where, Func<Task<ITrainingCluster>> open, ITrainView view, string? timeline,
        CancellationToken cancellation)
    {
        using RunLock held = RunLock.Take(plan.Request.Folder);
        view.Preparing($"{where} and reading the corpus");
        await using ITrainingCluster cluster = await open();
        ITrainingRunGrain grain = cluster.Grains.GetGrain<ITrainingRunGrain>(plan.Name);
        using ReplacedCheckpoints replaced = ReplacedCheckpoints.SetAside(plan.Replaced);
        TrainPlan ordered = plan;
        plan = plan.On(await cluster.PlacesAsync());
        if (plan.Recipe != ordered.Recipe)
        {
            view.Preparing(
                $"{plan.Request.Method.Name()} over {plan.Request.Stages} stages takes {plan.Recipe.MicroBatches} micro-batches: " +
                $"batches of {plan.Recipe.BatchSize} sequences, where --batch and --micro-batches say nothing else");
        }

        RunStarted started = await grain.StartAsync(plan.Request);

        view.Started(plan, started);
        var run = new TrainTracker(started.FirstStep, started.Steps);
        // Ctrl-C asks the run to stop and goes on watching: the checkpoint is still to come.
        await using CancellationTokenRegistration stop = cancellation.Register(() =>
        {
            view.Stopping();
            _ = grain.StopAsync();
        });
        await view.FollowAsync(new RunFollower(grain, plan.Request.Folder, started.FirstStep).ReadAsync(cancellation), run);
        if (run.Checkpoint is not null)
        {
            replaced.Delete();
        }

        run.Devices = cluster is EmbeddedCluster && run.End is RunFinished ? await TrainDevices.ReadAsync(cluster.Grains, plan) : null;
        run.Drawn = timeline is not null
            && await MeasuredSchedule.TryDrawAsync(cluster.Grains, plan.Name, timeline);

        return run;
    }

    /// <summary>As <see cref="SampleAsync"/>; nothing, and why, where the run has gone on without the device.</summary>
    private static async Task<TrainSample?> TrySampleAsync(
        string folder, string prompt, int threads, string precision, DeviceName device, Terminal terminal)
    {
        try
        {
            return await SampleAsync(folder, prompt, threads, precision, device);
        }
        catch (Exception exception) when (exception is DeviceLostException or CudaException { LosesDevice: true })
        {
            terminal.Notice($"no sample, {device} is lost to this process: {exception.Message}");
            return null;
        }
    }

    /// <summary>A text from the written checkpoint, as <c>krewe generate</c> would write it.</summary>
    private static async Task<TrainSample?> SampleAsync(
        string folder, string prompt, int threads, string precision, DeviceName device)
    {
        using ModelFolder model = ModelFolder.Open(folder);
        Tokenizer tokenizer = model.LoadTokenizer(null);
        int? first = tokenizer.BosId ?? tokenizer.EosId;
        int[] ids = [.. first is { } id ? [id] : Array.Empty<int>(), .. tokenizer.Encode(prompt)];
        int room = Math.Min(SampleTokens, model.Config.MaxPositionEmbeddings - ids.Length);
        if (ids.Length == 0 || room < 1)
        {
            throw new KreweException($"--sample has {ids.Length} tokens, the model reads {model.Config.MaxPositionEmbeddings}");
        }

        var request = new LoadRequest(Silos: 0, Stages: 1, threads, ids.Length + room, Precision: precision, Devices: [device]);
        await using LoadedModel loaded = await LoadedModel.OpenAsync(model.Origin, request, CancellationToken.None);
        StreamingDecoder decoder = tokenizer.CreateStreamingDecoder();
        var text = new StringBuilder();
        IAsyncEnumerable<GeneratedToken[]> steps = loaded.GenerateAsync(
            [
                new()
                {
                    Prompt = ids,
                    MaxTokens = room,
                    Sampling = new(Temperature: 0.7f, TopP: 0.95f, Seed: 1),
                },
            ],
            CancellationToken.None);
        await foreach (GeneratedToken[] step in steps)
        {
            // A short text is followed by the next one.
            text.Append(step[0].Token == tokenizer.EosId ? Environment.NewLine : decoder.Append(step[0].Token));
        }

        text.Append(decoder.Flush());
        return new(prompt, text.ToString());
    }
}
