using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>
/// Who goes where in a layer whose experts all live on one device, made there by <see cref="IKernels.PlanDispatch"/>: the
/// host never learns how many tokens an expert got. An <i>assignment</i> is one of the A = T K (token, expert) pairs; they
/// are ordered by expert, then by token, as in a plan of the host.
/// </summary>
/// <param name="Offsets">
/// Int32 [2, E + 1]. Row 0: expert e has assignments [offsets[e], offsets[e + 1]). Row 1 is the same with every expert's
/// number rounded up to <see cref="ColumnUnit"/>: its columns of matrices that are turned along the tokens.
/// </param>
/// <param name="Rows">Int32 [A]: token of each assignment.</param>
/// <param name="Assignments">Int32 [T, K]: assignment of each choice.</param>
public readonly record struct DispatchTable(Tensor Offsets, Tensor Rows, Tensor Assignments)
{
    /// <summary>Columns of turned matrices at whose multiples an expert's begin: a tile along the tokens.</summary>
    public const int ColumnUnit = 128;

    /// <summary>Number E of experts.</summary>
    public int Experts => Offsets.Columns - 1;

    /// <summary>Number A of assignments.</summary>
    public int Count => checked((int)Rows.Count);

    /// <summary>Columns of matrices turned along the tokens, wherever the tokens go: a multiple of the unit.</summary>
    public int TurnedColumns
    {
        get
        {
            // Each expert with tokens adds less than a unit.
            long most = Count + (Math.Min(Experts, Count) * (ColumnUnit - 1L));
            return checked((int)(most / ColumnUnit * ColumnUnit));
        }
    }

    /// <summary>Takes an uninitialised table.</summary>
    /// <param name="arena">Of the micro-batch.</param>
    /// <param name="tokens">T.</param>
    /// <param name="topK">K.</param>
    /// <param name="experts">E.</param>
    public static DispatchTable Allocate(Arena arena, int tokens, int topK, int experts) => new(
        arena.Allocate(2, experts + 1, DType.Int32), arena.Allocate(tokens * topK, DType.Int32),
        arena.Allocate(tokens, topK, DType.Int32));

    /// <summary>Int32 [2]: first assignment of an expert, and the end.</summary>
    public Tensor RangeOf(int expert) => Offsets.SliceElements(expert, 2);

    /// <summary>Int32 [2]: first column of an expert in turned matrices, and the end; multiples of the unit.</summary>
    public Tensor ColumnsOf(int expert) => Offsets.SliceElements(Offsets.Columns + expert, 2);
}
