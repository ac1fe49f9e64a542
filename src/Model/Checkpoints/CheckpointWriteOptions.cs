using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>How <see cref="CheckpointWriter"/> stores a model.</summary>
public sealed record CheckpointWriteOptions
{
    /// <summary>
    /// Type of the weights, <see cref="Tensors.DType.BFloat16"/> (default; rounds to nearest even) or
    /// <see cref="Tensors.DType.Float32"/>. The routing bias is float32 always.
    /// </summary>
    public DType DType { get; init; } = DType.BFloat16;

    /// <summary>
    /// Stores the weights that released checkpoints keep in FP8 as E4M3 with <c>weight_scale_inv</c> per 128x128 block;
    /// the rest stays <see cref="DType"/>. Off by default.
    /// </summary>
    public bool Fp8 { get; init; }

    /// <summary>Scales of FP8 weights are powers of two (ue8m0, as V3.1). Off by default.</summary>
    public bool PowerOfTwoScales { get; init; }

    /// <summary>
    /// Bytes of tensor data after which a new shard begins; 5 GB by default. A larger tensor gets a shard of its own.
    /// What fits into one shard is written as <c>model.safetensors</c> without an index.
    /// </summary>
    public long MaxShardBytes { get; init; } = 5_000_000_000;

    /// <summary>Writes MTP's copies of embedding and head, as released checkpoints do. On by default.</summary>
    public bool WriteDuplicates { get; init; } = true;

    /// <summary>Files to copy into the folder under their own names, such as <c>tokenizer.json</c>.</summary>
    public IReadOnlyList<string> ExtraFiles { get; init; } = [];

    /// <summary>
    /// Called with the staging folder before the swap, to add files that appear with the weights or not at all.
    /// </summary>
    public Func<string, CancellationToken, Task>? AddFiles { get; init; }

    /// <summary>Called at every step; a test throws <see cref="SimulatedCrashException"/> from it.</summary>
    internal Action<string>? Fault { get; init; }
}
