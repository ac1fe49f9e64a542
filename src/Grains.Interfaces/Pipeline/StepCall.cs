using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>What a call to a stage or to a gateway belongs to.</summary>
/// <param name="Slot">Number of the micro-batch within its step, where its activations are kept; or a session.</param>
/// <param name="Step">Step number.</param>
/// <param name="Attempt">
/// Number of the attempt: rises when a step is begun anew, never falls during a run. A silo refuses calls of an attempt
/// that it knows to be abandoned.
/// </param>
/// <param name="Turn">
/// Number among the calls of the step to a rank's stages: of what waits on a device, lower turns go first.
/// </param>
/// <param name="Rank">The rank whose calls begin in the order of their turns; -1 for a call that may begin at once.</param>
[GenerateSerializer, Immutable, Alias("krewe.StepCall")]
public readonly record struct StepCall(
    [property: Id(0)] long Slot, [property: Id(1)] long Step, [property: Id(2)] long Attempt,
    [property: Id(3)] int Turn = 0,
    [property: Id(4)] int Rank = -1)
{
    /// <summary>Of work that somebody waits for.</summary>
    public WorkPriority Priority => WorkPriority.Of(Turn);
}

/// <summary>Opens a step on a silo.</summary>
/// <param name="Step">Step number.</param>
/// <param name="Attempt">Its attempt; a higher one than before abandons everything that is under way.</param>
/// <param name="FirstSlot">Number of the first micro-batch whose weight gradients will be added.</param>
[GenerateSerializer, Immutable, Alias("krewe.StepBegin")]
public readonly record struct StepBegin(
    [property: Id(0)] long Step, [property: Id(1)] long Attempt, [property: Id(2)] long FirstSlot);

/// <summary>What a silo answers when a step is opened.</summary>
/// <param name="Owners">Stages and experts whose parameters are here.</param>
/// <param name="LowestStep">The lowest optimizer step that any of them has applied; 0 where there is none.</param>
/// <param name="HighestStep">The highest.</param>
[GenerateSerializer, Immutable, Alias("krewe.SiloReadiness")]
public sealed record SiloReadiness(
    [property: Id(0)] int Owners, [property: Id(1)] int LowestStep, [property: Id(2)] int HighestStep);
