using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Experts;
using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Training;
using Orleans.Concurrency;

namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>
/// One pipeline stage. Key: <c>model/direction/stage</c>, both numbers from 0. Pinned by the placement plan; its
/// parameters and activations live in the silo's device store.
/// </summary>
/// <remarks>
/// Reentrant, so that micro-batches interleave; the calls for one slot must come in order. Activations and gradients go
/// from stage to stage directly (<see cref="AcceptAsync"/>), never through the caller, and a delivery is taken once: a step
/// that failed is begun anew from its first stage under a higher attempt (<see cref="IExpertHostGrain.BeginAsync"/> on
/// every silo). <see cref="ApplyAsync"/> applies a step once. A stage that is activated anew finds everything in the
/// silo's store.
/// </remarks>
[Alias("krewe.IPipelineStageGrain")]
public interface IPipelineStageGrain : IGrainWithStringKey
{
    /// <summary>
    /// Allocates and fills the stage and learns where the experts and its neighbours are; loading what is loaded already
    /// brings it to the state that the source names.
    /// </summary>
    [Alias("LoadAsync")]
    Task<StageDescription> LoadAsync(ModelSource source);

    /// <summary>
    /// Takes what the neighbour computed: activations from the one before, gradients from the one behind.
    /// </summary>
    [Alias("AcceptAsync")]
    Task AcceptAsync(StageDelivery delivery);

    /// <summary>
    /// Forward of one micro-batch, once the previous stage has delivered; hands the result to the next stage. The last
    /// stage returns its losses. Ends with the computing: see <see cref="StageReport.Delivers"/>. A stage that no other waits
    /// for ends when its device has all the work: see <see cref="StageReport.Follows"/>.
    /// </summary>
    /// <exception cref="TimeoutException">Nothing was delivered in time; the message names stages and
    /// micro-batch.</exception>
    [Alias("ForwardAsync")]
    Task<StageReport> ForwardAsync(StepCall call, [Immutable] MicroBatch batch, [Immutable] ForwardOptions options);

    /// <summary>
    /// Backward of one micro-batch, once the next stage has delivered; hands the gradients to the previous stage. Ends
    /// with the computing: see <see cref="StageReport.Delivers"/>.
    /// </summary>
    [Alias("BackwardAsync")]
    Task<StageReport> BackwardAsync(StepCall call, bool weightGradients);

    /// <summary>Adds the weight gradients that a backward deferred.</summary>
    [Alias("BackwardWeightAsync")]
    Task BackwardWeightAsync(StepCall call);

    /// <summary>
    /// The report of a forward, once it is done; to be called once after each that <see cref="StageReport.Follows"/>, also
    /// when its backward is under way. How works of later calls ended is told by <see cref="GradientNormsAsync"/>.
    /// </summary>
    [Alias("ReportAsync")]
    Task<StageReport> ReportAsync(StepCall call);

    /// <summary>
    /// Rows of the embedding [T, D] for the copy of this first stage that does not have it. They live until the next call:
    /// one caller, one micro-batch after the other.
    /// </summary>
    /// <param name="call">Micro-batch, step and attempt.</param>
    /// <param name="tokens">[T]: token ids.</param>
    /// <param name="process">Process identity of the caller's silo.</param>
    [Alias("EmbedAsync")]
    Task<TensorParcel> EmbedAsync(StepCall call, [Immutable] int[] tokens, Guid process);

    /// <summary>
    /// Adds the gradients of rows that <see cref="EmbedAsync"/> gave, in the order of the calls; nothing is read after it.
    /// </summary>
    [Alias("AddEmbeddingGradientsAsync")]
    Task AddEmbeddingGradientsAsync(EmbeddingGradients gradients);

    /// <summary>
    /// Losses and gradients of rows for the copy of this last stage that does not have the head; adds the gradient of the
    /// projection, in the order of the calls. The result lives until the next call: one caller, one after the other.
    /// </summary>
    [Alias("RunHeadAsync")]
    Task<HeadReply> RunHeadAsync(HeadRequest request);

    /// <summary>
    /// Completes when what a forward, or a backward, hands on has arrived; to be called once after each that
    /// <see cref="StageReport.Delivers"/>.
    /// </summary>
    [Alias("DeliveredAsync")]
    Task DeliveredAsync(StepCall call, bool gradients);

    /// <summary>
    /// Exchanges gradients with the copy of this stage for the other direction, where it lives elsewhere: afterwards
    /// both hold the sums of even and of odd micro-batches.
    /// </summary>
    [Alias("ExchangeGradientsAsync")]
    Task ExchangeGradientsAsync(StepCall call);

    /// <summary>Takes the other copy's gradients and returns the own ones.</summary>
    /// <param name="call">Step and attempt.</param>
    /// <param name="set">Which parameters: 0 for the stage's own, 1 for the embedding or head where both have one.</param>
    /// <param name="gradients">The other direction's bank.</param>
    /// <param name="process">Process identity of the caller's silo.</param>
    [Alias("AcceptGradientsAsync")]
    Task<TensorParcel> AcceptGradientsAsync(StepCall call, int set, TensorParcel gradients, Guid process);

    /// <summary>Squared gradient norms of the stage's parameters.</summary>
    [Alias("GradientNormsAsync")]
    Task<List<GradientNorm>> GradientNormsAsync(long attempt);

    /// <summary>One AdamW step. A step that was applied already is not applied again.</summary>
    [Alias("ApplyAsync")]
    Task ApplyAsync(AdamWStep rates, long attempt);

    /// <summary>Replaces the routing bias of a layer.</summary>
    [Alias("SetBiasAsync")]
    Task SetBiasAsync(int layer, [Immutable] float[] bias, long attempt);

    /// <summary>A parameter or routing bias of this stage.</summary>
    [Alias("ReadParameterAsync")]
    Task<TensorParcel> ReadParameterAsync(string name, ParameterPart part, Guid process);

    /// <summary>
    /// An activation of a slot's last forward, or an empty parcel (see <c>ModelStage.Activation</c>).
    /// </summary>
    [Alias("ReadActivationAsync")]
    Task<TensorParcel> ReadActivationAsync(long slot, string name, Guid process);

    /// <summary>Opens a generation session with an empty latent cache.</summary>
    /// <param name="session">The session.</param>
    /// <param name="capacities">Most tokens of each of its sequences.</param>
    [Alias("OpenSessionAsync")]
    Task OpenSessionAsync(long session, [Immutable] int[] capacities);

    /// <summary>
    /// Runs the next tokens of a session through this stage and all behind it; returns the token that the last one
    /// chooses for each sequence of the step.
    /// </summary>
    /// <param name="session">The session.</param>
    /// <param name="step">Sequences and tokens.</param>
    /// <param name="hidden">What the previous stage hands over; empty for the first.</param>
    [Alias("DecodeAsync")]
    Task<int[]> DecodeAsync(long session, [Immutable] DecodeStep step, TensorParcel hidden);

    /// <summary>Frees what is kept for a slot or session.</summary>
    [Alias("ReleaseAsync")]
    Task ReleaseAsync(long slot);

    /// <summary>Moves the grain to the silo that the plan names; its memory stays until the gateway frees it.</summary>
    [Alias("MoveAsync")]
    Task MoveAsync();

    /// <summary>Lets the grain go, so that it may be placed anew; its memory is freed by the gateway.</summary>
    [Alias("UnloadAsync")]
    Task UnloadAsync();
}

/// <summary>Where a stage is and what it holds.</summary>
/// <param name="Silo">Name of the place.</param>
/// <param name="Device">Name of its device.</param>
/// <param name="Parameters">
/// Number of parameters, embedding and head included where they are on its silo, the routed experts' excluded.
/// </param>
/// <param name="MoeLayers">Layers with routed experts.</param>
[GenerateSerializer, Immutable, Alias("krewe.StageDescription")]
public sealed record StageDescription(
    [property: Id(0)] string Silo, [property: Id(1)] string Device, [property: Id(2)] long Parameters,
    [property: Id(3)] int[] MoeLayers);

/// <summary>Activations or gradients from a neighbour.</summary>
/// <param name="Call">Micro-batch, step and attempt.</param>
/// <param name="Gradients">True for gradients, from the stage behind.</param>
/// <param name="Hidden">[T, D].</param>
/// <param name="Embeddings">[T, D], or empty.</param>
[GenerateSerializer, Immutable, Alias("krewe.StageDelivery")]
public sealed record StageDelivery(
    [property: Id(0)] StepCall Call, [property: Id(1)] bool Gradients, [property: Id(2)] TensorParcel Hidden,
    [property: Id(3)] TensorParcel Embeddings);

/// <summary>What a stage reports of a forward or a backward.</summary>
/// <param name="Losses">Losses; null but for a forward on the last stage.</param>
/// <param name="Loads">Loads of this stage's MoE layers; empty for a backward.</param>
/// <param name="WaitedSeconds">How long the call waited for the neighbour before it could compute.</param>
/// <param name="Delivers">
/// True where the result is still on its way to another process: the stage goes on with other work meanwhile, and
/// <see cref="IPipelineStageGrain.DeliveredAsync"/> tells how it ended.
/// </param>
/// <param name="Follows">
/// True where a forward is still computing, and nobody has to wait: <see cref="IPipelineStageGrain.ReportAsync"/> gives losses
/// and loads.
/// </param>
[GenerateSerializer, Immutable, Alias("krewe.StageReport")]
public sealed record StageReport(
    [property: Id(0)] MicroBatchLosses? Losses, [property: Id(1)] LayerLoad[] Loads,
    [property: Id(2)] double WaitedSeconds, [property: Id(3)] bool Delivers,
    [property: Id(4)] bool Follows = false);
