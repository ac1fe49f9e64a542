using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Krewe.Model.Kernels;
using Krewe.Model.Training;

namespace Krewe.Grains.Interfaces.Experts;

/// <summary>
/// The gateway to all experts of one model at one place: a stage calls it once per layer, however many experts it needs
/// there. Key: <c>model@place</c>. Reentrant; the calls for one (layer, slot) must come one after the other. It also
/// speaks for the whole place in what concerns all parts of the model there: opening a step, snapshots, freeing.
/// </summary>
/// <remarks>
/// A forward may be repeated; a step that failed is begun anew under a higher attempt (<see cref="BeginAsync"/>);
/// <see cref="ApplyAsync"/> applies a step once. Tensors in a reply live until the slot's weight gradients are asked for.
/// </remarks>
[Alias("krewe.IExpertHostGrain")]
public interface IExpertHostGrain : IGrainWithStringKey
{
    /// <summary>
    /// Loads every expert that the plan puts here, and frees those that it puts elsewhere; an expert that is loaded
    /// already is brought to the state that the source names.
    /// </summary>
    [Alias("LoadAsync")]
    Task<HostDescription> LoadAsync(ModelSource source);

    /// <summary>
    /// Opens a step on the silo. A higher attempt than before abandons all that is under way: waits until it has ended,
    /// drops what was delivered, and sets every gradient to zero.
    /// </summary>
    [Alias("BeginAsync")]
    Task<SiloReadiness> BeginAsync(StepBegin begin);

    /// <summary>
    /// Has every expert of a layer here join work that the silo's device will run many times: a step of decoding, made by a
    /// stage of this silo.
    /// </summary>
    [Alias("JoinAsync")]
    Task JoinAsync(int layer, StepCall call);

    /// <summary>Runs the experts of a slice.</summary>
    [Alias("ForwardAsync")]
    Task<TensorParcel> ForwardAsync(ExpertForward request);

    /// <summary>Gradients of the rows and of the gate weights, two parcels.</summary>
    [Alias("BackwardAsync")]
    Task<TensorParcel[]> BackwardAsync(ExpertBackward request);

    /// <summary>
    /// Has the experts' weight gradients of a micro-batch added when its turn comes: in the order of the slots, whichever
    /// direction of the pipeline asks first. Returns at once; <see cref="GradientNormsAsync"/> waits for all.
    /// </summary>
    [Alias("BackwardWeightAsync")]
    Task BackwardWeightAsync(int layer, StepCall call);

    /// <summary>Frees what is kept for a slot.</summary>
    [Alias("ReleaseAsync")]
    Task ReleaseAsync(long slot);

    /// <summary>Squared gradient norms of every expert here.</summary>
    [Alias("GradientNormsAsync")]
    Task<List<GradientNorm>> GradientNormsAsync(long attempt);

    /// <summary>One AdamW step of every expert here. A step that was applied already is not applied again.</summary>
    [Alias("ApplyAsync")]
    Task ApplyAsync(AdamWStep rates, long attempt);

    /// <summary>A parameter of an expert here.</summary>
    /// <param name="name">Checkpoint name.</param>
    /// <param name="part">What of it.</param>
    /// <param name="process">Process of the caller: a caller in the same one gets a view.</param>
    [Alias("ReadAsync")]
    Task<TensorParcel> ReadAsync(string name, ParameterPart part, Guid process);

    /// <summary>Frees the experts of the model on this silo.</summary>
    [Alias("UnloadAsync")]
    Task UnloadAsync();
}

/// <summary>Who answers behind a gateway.</summary>
/// <param name="Silo">Name of the place.</param>
/// <param name="Process">Its process.</param>
/// <param name="Device">Name of its device.</param>
/// <param name="ReservedBytes">Bytes that its device holds.</param>
[GenerateSerializer, Immutable, Alias("krewe.HostDescription")]
public sealed record HostDescription(
    [property: Id(0)] string Silo, [property: Id(1)] Guid Process, [property: Id(2)] string Device,
    [property: Id(3)] long ReservedBytes);

/// <summary>A forward call.</summary>
/// <param name="Layer">Layer number.</param>
/// <param name="Call">Micro-batch or session, step, attempt.</param>
/// <param name="Slice">Who takes which row.</param>
/// <param name="Rows">[rows, D].</param>
/// <param name="BackwardFollows">True in training: the host keeps what a backward needs.</param>
/// <param name="Process">Process of the caller.</param>
[GenerateSerializer, Immutable, Alias("krewe.ExpertForward")]
public sealed record ExpertForward(
    [property: Id(0)] int Layer, [property: Id(1)] StepCall Call, [property: Id(2)] ExpertSliceParcel Slice,
    [property: Id(3)] TensorParcel Rows, [property: Id(4)] bool BackwardFollows, [property: Id(5)] Guid Process);

/// <summary>A backward call.</summary>
/// <param name="Layer">Layer number.</param>
/// <param name="Call">Micro-batch, step, attempt.</param>
/// <param name="GradRows">[rows, D].</param>
/// <param name="Process">Process of the caller.</param>
[GenerateSerializer, Immutable, Alias("krewe.ExpertBackward")]
public sealed record ExpertBackward(
    [property: Id(0)] int Layer, [property: Id(1)] StepCall Call, [property: Id(2)] TensorParcel GradRows,
    [property: Id(3)] Guid Process);
