using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Training;
using Krewe.Model.Configuration;
using Krewe.Model.Pipeline;
using Krewe.Silo.Hosting;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>
/// A run whose tensors travel through the channel, which loses, refuses and garbles some: the step is run again where it
/// stands, and the losses are those of an undisturbed run.
/// </summary>
public class ChannelFaultTests(ITestOutputHelper output)
{
    private const int Steps = 14;

    [Fact]
    public async Task A_lost_refused_or_garbled_connection_costs_a_step_and_no_bit()
    {
        using var folder = new TemporaryFolder();
        string data = folder["text.txt"];
        await File.WriteAllTextAsync(data, string.Concat(Enumerable.Range(0, 3000).Select(i => $"{i * 7919 % 10007} words. ")));
        (Dictionary<long, double> expected, _) = await TrainAsync(folder["calm"], data, null);

        var faults = new ChannelFaults();
        (Dictionary<long, double> actual, List<RunRecovered> recoveries) = await TrainAsync(folder["rough"], data, faults);

        Assert.Equal(expected, actual);
        Assert.InRange(recoveries.Count, 2, 12);
        Assert.All(recoveries, recovery => Assert.Equal(recovery.FromStep, recovery.ToStep));
        output.WriteLine(string.Join(Environment.NewLine, recoveries.Select(r => $"step {r.FromStep}: {r.Reason}")));
    }

    private static async Task<(Dictionary<long, double> Losses, List<RunRecovered> Recoveries)> TrainAsync(
        string folder, string data, ChannelFaults? faults)
    {
        await using EmbeddedCluster cluster = await EmbeddedCluster.StartAsync(
            new() { Silos = 2, InBand = true, Channel = new() { Faults = faults } }, TestContext.Current.CancellationToken);
        ITrainingRunGrain run = cluster.Grains.GetGrain<ITrainingRunGrain>("run");
        // Rows of 128 KiB: too large to ride in a grain call.
        await run.StartAsync(new()
        {
            ConfigJson = ModelPresets.Get("tiny").ToJson(),
            TrainingJson = new TrainingConfig
            {
                Steps = Steps,
                WarmupSteps = 2,
                BatchSize = 8,
                MicroBatches = 4,
                SequenceLength = 128,
            }.ToJson(),
            Data = data,
            Folder = folder,
            Silos = cluster.SiloNames,
            Stages = 2,
            Method = PipelineMethod.DualPipe,
            HeldOutFraction = 0,
        });
        var losses = new Dictionary<long, double>();
        var recoveries = new List<RunRecovered>();
        await foreach (RunEvent happened in run.WatchAsync(TestContext.Current.CancellationToken))
        {
            switch (happened)
            {
                case StepCommitted step:
                    losses.Add(step.Report.Step, step.Report.TotalLoss);
                    Disturb(faults, step.Report.Step);
                    break;
                case RunRecovered recovered:
                    recoveries.Add(recovered);
                    break;
                case RunFailed failed:
                    Assert.Fail(failed.Message);
                    break;
            }
        }

        return (losses, recoveries);
    }

    private static void Disturb(ChannelFaults? faults, long step)
    {
        switch (step)
        {
            case 1:
                faults?.CutAfterFrames(5);
                break;
            case 4:
                faults?.CorruptHeader();
                break;
            case 7:
                // A cut, and the peer refuses to be connected again at first.
                faults?.RefuseConnections(2);
                faults?.CutAfterFrames(3);
                break;
        }
    }
}
