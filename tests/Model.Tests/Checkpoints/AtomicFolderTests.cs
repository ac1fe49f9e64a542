using Krewe.Model.Checkpoints;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Checkpoints;

/// <summary>A save dies at each of its steps: what is opened afterwards is the old checkpoint or the new one, whole.</summary>
public sealed class AtomicFolderTests
{
    private static readonly CheckpointWriteOptions _exact = new() { DType = DType.Float32, MaxShardBytes = 200_000 };

    public static TheoryData<string, int> Steps => new()
    {
        { "shard 0", 0 },
        { "shard 1", 0 },
        { "written", 0 },
        { "flushed", 0 },
        { "complete", 0 },
        { "old moved away", 1 },
        { "new in place", 1 },
        { "old deleted", 1 },
    };

    [Theory]
    [MemberData(nameof(Steps))]
    public void A_crash_leaves_the_old_or_the_new_one(string step, int expected)
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], _exact, seed: 0);
        Crash(folder["m"], step, seed: 1);
        Assert.Equal(step == "old moved away", !Directory.Exists(folder["m"]));
        Assert.Equal(expected, TinyCheckpoint.SeedOf(folder["m"]));
        Assert.Equal(expected, TinyCheckpoint.SeedOf(folder["m"]));

        // The next save sweeps up.
        TinyCheckpoint.Write(folder["m"], _exact, seed: 1 - expected);
        Assert.Equal(1 - expected, TinyCheckpoint.SeedOf(folder["m"]));
        Assert.Equal([folder["m"]], Directory.GetFileSystemEntries(folder.Path));
    }

    [Theory]
    [InlineData("shard 0", false)]
    [InlineData("flushed", false)]
    [InlineData("complete", true)]
    [InlineData("new in place", true)]
    public void A_crash_of_the_first_save_leaves_nothing_or_all(string step, bool there)
    {
        using TemporaryFolder folder = new();
        Crash(folder["m"], step, seed: 1);
        if (there)
        {
            Assert.Equal(1, TinyCheckpoint.SeedOf(folder["m"]));
        }
        else
        {
            Assert.Contains("no such folder", Assert.Throws<KreweException>(() => CheckpointReader.Open(folder["m"])).Message);
        }
    }

    [Fact]
    public void A_crash_right_after_a_crash_loses_nothing()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], _exact, seed: 0);
        Crash(folder["m"], "old moved away", seed: 1);
        Crash(folder["m"], "shard 0", seed: 0);
        Assert.Equal(1, TinyCheckpoint.SeedOf(folder["m"]));
    }

    [Theory]
    [InlineData("complete")]
    [InlineData("old moved away")]
    public void A_failure_that_is_no_crash_restores_the_old_one(string step)
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], _exact, seed: 0);
        CheckpointWriteOptions failing = _exact with
        {
            Fault = at =>
            {
                if (at == step)
                {
                    throw new IOException("disk is full");
                }
            },
        };
        KreweException exception = Assert.Throws<KreweException>(() => TinyCheckpoint.Write(folder["m"], failing, seed: 1));
        Assert.Contains("nothing was changed: disk is full", exception.Message);
        Assert.Equal([folder["m"]], Directory.GetFileSystemEntries(folder.Path));
        Assert.Equal(0, TinyCheckpoint.SeedOf(folder["m"]));
    }

    [Fact]
    public void A_reader_in_the_gap_finishes_the_swap()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["m"], _exact, seed: 0);
        int seen = -1;
        CheckpointWriteOptions watched = _exact with
        {
            Fault = at => seen = at == "old moved away" ? TinyCheckpoint.SeedOf(folder["m"]) : seen,
        };
        TinyCheckpoint.Write(folder["m"], watched, seed: 1);
        Assert.Equal(1, seen);
        Assert.Equal(1, TinyCheckpoint.SeedOf(folder["m"]));
        Assert.Equal([folder["m"]], Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void Two_saves_at_once_are_refused()
    {
        using TemporaryFolder folder = new();
        using (AtomicFolder.Begin(folder["m"]))
        {
            KreweException exception = Assert.Throws<KreweException>(() => AtomicFolder.Begin(folder["m"]));
            Assert.Contains("another process is saving there", exception.Message);
        }

        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void A_symbolic_link_stays_and_its_target_is_replaced()
    {
        using TemporaryFolder folder = new();
        TinyCheckpoint.Write(folder["real"], _exact, seed: 0);
        Directory.CreateSymbolicLink(folder["link"], folder["real"]);
        TinyCheckpoint.Write(folder["link"], _exact, seed: 1);
        Assert.NotNull(new DirectoryInfo(folder["link"]).LinkTarget);
        Assert.Equal(1, TinyCheckpoint.SeedOf(folder["real"]));
    }

    private static void Crash(string folder, string step, int seed)
    {
        CheckpointWriteOptions dying = _exact with
        {
            Fault = at =>
            {
                if (at == step)
                {
                    throw new SimulatedCrashException(at);
                }
            },
        };
        Assert.Throws<SimulatedCrashException>(() => TinyCheckpoint.Write(folder, dying, seed));
    }
}
