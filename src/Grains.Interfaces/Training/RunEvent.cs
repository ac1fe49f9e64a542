using Krewe.Model;
using Krewe.Model.Training;

namespace Krewe.Grains.Interfaces.Training;

/// <summary>Something that happened in a run.</summary>
[GenerateSerializer, Immutable, Alias("krewe.RunEvent")]
public abstract record RunEvent;

/// <summary>An optimizer step was committed.</summary>
/// <param name="Report">Losses, norms and loads.</param>
/// <param name="Seconds">How long the step took.</param>
[GenerateSerializer, Immutable, Alias("krewe.StepCommitted")]
public sealed record StepCommitted([property: Id(0)] StepReport Report, [property: Id(1)] double Seconds) : RunEvent;

/// <summary>The held-out part was evaluated.</summary>
/// <param name="Step">Steps committed so far.</param>
/// <param name="Loss">Mean cross-entropy, nats per token.</param>
/// <param name="NatsPerByte">The same per byte of text.</param>
/// <param name="MtpLoss">Mean cross-entropy of depth 1, or null.</param>
/// <param name="MtpAgreement">Share of positions where depth 1 and the main head agree, or null.</param>
/// <param name="Tokens">Tokens scored.</param>
[GenerateSerializer, Immutable, Alias("krewe.Evaluated")]
public sealed record Evaluated(
    [property: Id(0)] long Step, [property: Id(1)] double Loss, [property: Id(2)] double NatsPerByte,
    [property: Id(3)] double? MtpLoss, [property: Id(4)] double? MtpAgreement, [property: Id(5)] long Tokens) : RunEvent;

/// <summary>A checkpoint is complete on disk.</summary>
/// <param name="Step">Steps that it holds.</param>
/// <param name="Folder">Its folder.</param>
/// <param name="Bytes">Bytes of the whole folder.</param>
[GenerateSerializer, Immutable, Alias("krewe.CheckpointWritten")]
public sealed record CheckpointWritten(
    [property: Id(0)] long Step, [property: Id(1)] string Folder, [property: Id(2)] long Bytes) : RunEvent;

/// <summary>A fault stopped the run for a while; it goes on.</summary>
/// <param name="FromStep">Steps that were committed when it happened.</param>
/// <param name="ToStep">Steps that the run goes on from.</param>
/// <param name="Seconds">How long it paused.</param>
/// <param name="Reason">What happened, one line.</param>
/// <param name="Silos">Places that take part from now on.</param>
[GenerateSerializer, Immutable, Alias("krewe.RunRecovered")]
public sealed record RunRecovered(
    [property: Id(0)] long FromStep, [property: Id(1)] long ToStep, [property: Id(2)] double Seconds,
    [property: Id(3)] string Reason, [property: Id(4)] string[] Silos) : RunEvent;

/// <summary>Experts and stages were moved: a silo joined, or was drained.</summary>
/// <param name="Step">Steps committed.</param>
/// <param name="Seconds">How long it took.</param>
/// <param name="Silos">Places that take part from now on.</param>
[GenerateSerializer, Immutable, Alias("krewe.RunMoved")]
public sealed record RunMoved(
    [property: Id(0)] long Step, [property: Id(1)] double Seconds, [property: Id(2)] string[] Silos) : RunEvent;

/// <summary>The run ended, by its last step or because it was told to stop.</summary>
/// <param name="Step">Steps committed.</param>
/// <param name="Stopped">True where it was told to stop.</param>
/// <param name="Checkpoint">Folder of the last checkpoint.</param>
[GenerateSerializer, Immutable, Alias("krewe.RunFinished")]
public sealed record RunFinished(
    [property: Id(0)] long Step, [property: Id(1)] bool Stopped, [property: Id(2)] string? Checkpoint) : RunEvent;

/// <summary>The run failed.</summary>
/// <param name="Message">
/// One line for the user; where it ends with a colon, lines follow that are shown as they are, such as a compiler's log.
/// </param>
/// <param name="IsUserFault">True where the message was written for the user: of a <see cref="KreweException"/>.</param>
[GenerateSerializer, Immutable, Alias("krewe.RunFailed")]
public sealed record RunFailed(
    [property: Id(0)] string Message, [property: Id(1)] bool IsUserFault) : RunEvent
{
    /// <summary>The end of a run by this exception.</summary>
    public static RunFailed By(Exception exception) => new(exception.Message, exception is KreweException);
}
