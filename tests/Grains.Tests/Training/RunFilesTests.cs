using Krewe.Grains.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Training;

/// <summary>The journal of a run, and the file that says who drives it.</summary>
public class RunFilesTests
{
    [Fact]
    public void A_journal_holds_each_step_once_and_notices_another_result()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder["run"]);
        RunJournal journal = RunJournal.Open(folder["run"], 0);
        Assert.All(Enumerable.Range(0, 6), step => Assert.True(journal.Add(Entry(step, 1.5))));
        File.AppendAllText(Path.Combine(folder["run"], "journal.jsonl"), "{\"step\":6,\"lo");

        RunJournal again = RunJournal.Open(folder["run"], long.MaxValue);
        Assert.True(again.Add(Entry(4, 1.5)));
        Assert.False(again.Add(Entry(5, 1.25)));
        Assert.True(again.Add(Entry(6, 1.5)));
        Assert.Equal(7, File.ReadAllLines(Path.Combine(folder["run"], "journal.jsonl")).Length);

        RunJournal.Open(folder["run"], 3);
        Assert.Equal(3, File.ReadAllLines(Path.Combine(folder["run"], "journal.jsonl")).Length);
    }

    [Fact]
    public void An_epoch_is_taken_once()
    {
        using var folder = new TemporaryFolder();
        RunState first = State(1);
        first.Claim(folder["run"]);
        Assert.Throws<SupersededException>(() => State(1).Claim(folder["run"]));
        State(2).Claim(folder["run"]);
        // Who was taken for dead writes on, to a file that nobody reads.
        (first with { Committed = 99 }).Write(folder["run"]);
        Assert.Equal((2, 0), (RunState.Read(folder["run"])!.Epoch, RunState.Read(folder["run"])!.Committed));
    }

    private static RunJournal.Entry Entry(long step, double loss) => new(step, loss, [loss], 1, 1e-3, 0.5, 8, 0, step);

    private static RunState State(int epoch) => new()
    {
        Epoch = epoch,
        Name = "run",
        Phase = "Training",
        Request = new() { ConfigJson = "", TrainingJson = "", Folder = "", Silos = [] },
    };
}
