using Krewe.Grains.Interfaces.Experts;
using Krewe.Model.Layers;
using Krewe.Model.Pipeline;
using Krewe.Model.Training;
using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>
/// Drives the micro-batches of a step through the stages in the order of a schedule. Key: run name. Holds nothing that
/// a step needs after it ended: a coordinator that is activated anew takes the next order.
/// </summary>
[Alias("krewe.IDualPipeCoordinatorGrain")]
public interface IDualPipeCoordinatorGrain : IGrainWithStringKey
{
    /// <summary>
    /// Runs forward and backward of all micro-batches and sums the gradients of mirrored stages. No parameter changes.
    /// </summary>
    /// <returns>One report per micro-batch, in their order.</returns>
    /// <exception cref="TimeoutException">An operation did not end in time; the message names operation, rank and
    /// silo.</exception>
    [Alias("RunStepAsync")]
    Task<StepOutcome> RunStepAsync([Immutable] StepOrder order);

    /// <summary>When every operation of the last complete step ran; null before the first.</summary>
    [Alias("TimelineAsync"), AlwaysInterleave]
    Task<StepTimeline?> TimelineAsync();
}

/// <summary>A step to run.</summary>
[GenerateSerializer, Immutable, Alias("krewe.StepOrder")]
public sealed record StepOrder
{
    /// <summary>Step number.</summary>
    [Id(0)] public required long Step { get; init; }

    /// <summary>Its attempt.</summary>
    [Id(1)] public required long Attempt { get; init; }

    /// <summary>Schedule and ranks.</summary>
    [Id(2)] public required PipelineLayout Layout { get; init; }

    /// <summary>Who holds what.</summary>
    [Id(3)] public required PlacementPlan Plan { get; init; }

    /// <summary>The micro-batches, by slot.</summary>
    [Id(4)] public required MicroBatch[] Batch { get; init; }

    /// <summary>Scales and mode.</summary>
    [Id(5)] public required ForwardOptions Options { get; init; }

    /// <summary>Longest time that one operation may take.</summary>
    [Id(6)] public TimeSpan OperationDeadline { get; init; } = TimeSpan.FromMinutes(9);
}

/// <summary>What a step gave.</summary>
/// <param name="Losses">Losses of each micro-batch.</param>
/// <param name="Loads">Loads of each micro-batch, layers rising.</param>
[GenerateSerializer, Immutable, Alias("krewe.StepOutcome")]
public sealed record StepOutcome([property: Id(0)] MicroBatchLosses[] Losses, [property: Id(1)] LayerLoad[][] Loads);

/// <summary>
/// When the operations of a step ran. An operation starts when its inputs are there, not when its rank begins to wait
/// for them; where the halves of a pair ran apart, the pair starts as late as if nothing had come between them.
/// </summary>
/// <param name="Step">Step number.</param>
/// <param name="Method">Schedule.</param>
/// <param name="Silos">Name of the place of each rank.</param>
/// <param name="Devices">Name of the device of each rank.</param>
/// <param name="Operations">For each rank the operations in order, in the notation of the schedules.</param>
/// <param name="Starts">Their starts, seconds from the start of the step.</param>
/// <param name="Ends">Their ends.</param>
[GenerateSerializer, Immutable, Alias("krewe.StepTimeline")]
public sealed record StepTimeline(
    [property: Id(0)] long Step, [property: Id(1)] PipelineMethod Method, [property: Id(2)] string[] Silos,
    [property: Id(3)] string[] Devices, [property: Id(4)] string[][] Operations, [property: Id(5)] double[][] Starts,
    [property: Id(6)] double[][] Ends)
{
    /// <summary>The operations with their times, for figures and drawings.</summary>
    public ScheduleTimeline ToSchedule() => new([.. Operations.Select((ops, rank) => (IReadOnlyList<TimedOp>)
        [.. ops.Select((op, i) => new TimedOp(PipelineOp.Parse(op), Starts[rank][i], Ends[rank][i]))])]);
}
