using Krewe.Grains.Interfaces.Training;

namespace Krewe.Silo.Commands.Train;

/// <summary>Shows a run: as a progress bar, as plain lines, or as JSON lines.</summary>
internal interface ITrainView
{
    /// <summary>Before the cluster is up.</summary>
    void Preparing(string what);

    /// <summary>The run has been set up.</summary>
    void Started(TrainPlan plan, RunStarted started);

    /// <summary>Shows events until they end, keeping <paramref name="run"/> up to date.</summary>
    Task FollowAsync(IAsyncEnumerable<RunEvent> events, TrainTracker run);

    /// <summary>The user asked for the end.</summary>
    void Stopping();

    /// <summary>The run is over; its checkpoint continued a text.</summary>
    void Finished(TrainPlan plan, TrainTracker run, TimeSpan time, TrainSample? sample);
}

/// <summary>A text that the finished model wrote.</summary>
/// <param name="Prompt">What it was given; empty for a new document.</param>
/// <param name="Continuation">What it wrote.</param>
internal sealed record TrainSample(string Prompt, string Continuation);
