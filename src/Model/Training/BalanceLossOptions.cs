namespace Krewe.Model.Training;

/// <summary>Over which tokens the two factors of the balance loss are taken.</summary>
public enum BalanceLossScope
{
    /// <summary>Each sequence on its own (report eq. 17-20).</summary>
    Sequence,

    /// <summary>All tokens of a micro-batch together: the classic auxiliary loss, for ablations.</summary>
    MicroBatch,
}

/// <summary>The balance loss alpha * sum_i f_i P_i of every MoE layer.</summary>
/// <param name="Alpha">
/// Coefficient; released configs lack it, the report says 1e-4. 0 measures without a gradient.
/// </param>
/// <param name="Scope">Over which tokens.</param>
/// <param name="Units">Sequences (or micro-batches) of the whole global batch: the loss is their mean.</param>
public sealed record BalanceLossOptions(double Alpha, BalanceLossScope Scope, int Units);
