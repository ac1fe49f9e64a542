using Krewe.Grains.Interfaces.Training;
using Krewe.Grains.Training;
using Krewe.Model.Training;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>What a watcher who comes late is told of a run.</summary>
public class RunEventLogTests
{
    private readonly RunEventLog _log = new();

    [Fact]
    public async Task Old_steps_are_kept_without_their_loads()
    {
        const int steps = 3 * RunEventLog.KeptWithLoads;
        for (int step = 0; step < steps; step++)
        {
            _log.Add(Step(step));
        }

        StepCommitted[] told = await ReadAsync(steps);

        Assert.Equal(Enumerable.Range(0, steps).Select(step => (long)step), told.Select(step => step.Report.Step));
        Assert.All(told[..^RunEventLog.KeptWithLoads], step => Assert.Empty(step.Report.Loads));
        Assert.All(told[^RunEventLog.KeptWithLoads..], step => Assert.Equal([step.Report.Step], step.Report.Loads[1]));
    }

    [Fact]
    public async Task The_number_of_events_is_bounded_and_the_last_ones_stay()
    {
        const int steps = 3 * RunEventLog.Kept;
        for (int step = 0; step < steps; step++)
        {
            _log.Add(Step(step));
        }

        StepCommitted[] told = await ReadAsync(RunEventLog.Kept / 2);

        Assert.True(told[0].Report.Step >= steps - RunEventLog.Kept);
    }

    private static StepCommitted Step(int step) =>
        new(new(step, 1, [], 1, 0, 1, 1, 0, new Dictionary<int, long[]> { [1] = [step] }, 1), 0.1);

    private async Task<StepCommitted[]> ReadAsync(int count)
    {
        var told = new List<StepCommitted>();
        await foreach (RunEvent happened in _log.ReadAsync(TestContext.Current.CancellationToken))
        {
            told.Add((StepCommitted)happened);
            if (told.Count == count)
            {
                break;
            }
        }

        return [.. told];
    }
}
