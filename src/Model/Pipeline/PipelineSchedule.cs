namespace Krewe.Model.Pipeline;

/// <summary>
/// What every rank of a pipeline does in one step, in order: pure data, the same for a simulation, a test and a run.
/// </summary>
/// <remarks>
/// P ranks, M micro-batches over all directions, S stages. A rank holds one stage; under DualPipe it holds stage r of
/// direction 0 (rank 0 to P-1) and stage P-1-r of direction 1 (rank P-1 to 0), under DualPipeV stages r and 2P-1-r of
/// the one direction.
/// </remarks>
public sealed class PipelineSchedule
{
    /// <summary>A schedule with given lists, in any order; see <see cref="Create"/> for the known ones.</summary>
    /// <param name="method">Decides where stages lie and what chunks mean.</param>
    /// <param name="ranks">Ranks P, even under DualPipe.</param>
    /// <param name="microBatches">Micro-batches M over both directions, even under DualPipe.</param>
    /// <param name="ops">One list per rank.</param>
    /// <exception cref="KreweException">
    /// The numbers do not fit the method or the lists; a list names a chunk or micro-batch that there is not.
    /// </exception>
    public PipelineSchedule(
        PipelineMethod method, int ranks, int microBatches, IReadOnlyList<IReadOnlyList<PipelineOp>> ops)
    {
        CheckNumbers(method, ranks, microBatches);
        if (ops.Count != ranks)
        {
            throw new KreweException(
                $"{method.Name()} over {ranks} ranks needs {ranks} operation lists, not {ops.Count}");
        }

        (Method, Ranks, MicroBatches, Ops) = (method, ranks, microBatches, ops);
        foreach (PipelineTask task in ops.SelectMany(list => list).SelectMany(op => op.Tasks))
        {
            if ((uint)task.Chunk >= Chunks || (uint)task.MicroBatch >= MicroBatchesPerDirection)
            {
                throw new KreweException(
                    $"{method.Name()} with {microBatches} micro-batches has no {task}: chunks go to {Chunks - 1}, " +
                    $"micro-batches to {MicroBatchesPerDirection - 1}");
            }
        }
    }

    /// <summary>The method.</summary>
    public PipelineMethod Method { get; }

    /// <summary>Ranks P.</summary>
    public int Ranks { get; }

    /// <summary>Micro-batches M, over both directions.</summary>
    public int MicroBatches { get; }

    /// <summary>Stages S that the model is cut into: P, or 2P under DualPipeV.</summary>
    public int Stages => Method == PipelineMethod.DualPipeV ? 2 * Ranks : Ranks;

    /// <summary>Directions that micro-batches run in: 2 under DualPipe, else 1.</summary>
    public int Directions => Method == PipelineMethod.DualPipe ? 2 : 1;

    /// <summary>Stages that a rank holds: 2 under DualPipe and DualPipeV, else 1.</summary>
    public int Chunks => Method is PipelineMethod.DualPipe or PipelineMethod.DualPipeV ? 2 : 1;

    /// <summary>
    /// Operations of a rank that are under way at once: two where a rank has two stages and its list is made for overlap.
    /// Of their work on the device that waits, the first one's goes first (docs/decisions/0011).
    /// </summary>
    public int OperationsAtOnce => Chunks;

    /// <summary>Micro-batches of one direction.</summary>
    public int MicroBatchesPerDirection => MicroBatches / Directions;

    /// <summary>The operations of each rank, in their order.</summary>
    public IReadOnlyList<IReadOnlyList<PipelineOp>> Ops { get; }

    /// <summary>Which stage of which direction a rank's chunk is.</summary>
    public (int Direction, int Stage) StageOf(int rank, int chunk) => (Method, chunk) switch
    {
        (PipelineMethod.DualPipe, 1) => (1, Ranks - 1 - rank),
        (PipelineMethod.DualPipeV, 1) => (0, (2 * Ranks) - 1 - rank),
        _ => (0, rank),
    };

    /// <summary>The rank that holds a stage of a direction.</summary>
    public int RankOf(int direction, int stage) => Method switch
    {
        PipelineMethod.DualPipe when direction == 1 => Ranks - 1 - stage,
        PipelineMethod.DualPipeV when stage >= Ranks => (2 * Ranks) - 1 - stage,
        _ => stage,
    };

    /// <summary>The chunk under which its rank knows a stage of a direction.</summary>
    public int ChunkOf(int direction, int stage) => Method switch
    {
        PipelineMethod.DualPipe => direction,
        PipelineMethod.DualPipeV when stage >= Ranks => 1,
        _ => 0,
    };

    /// <summary>
    /// Number of a micro-batch within the whole step, below <see cref="MicroBatches"/>: the two directions of DualPipe
    /// take turns.
    /// </summary>
    public int SlotOf(int chunk, int microBatch) =>
        Method == PipelineMethod.DualPipe ? (2 * microBatch) + chunk : microBatch;

    /// <summary>The schedule of a method.</summary>
    /// <param name="method">The method.</param>
    /// <param name="ranks">Ranks P.</param>
    /// <param name="microBatches">Micro-batches M, over both directions.</param>
    /// <exception cref="KreweException">The method has no schedule for these numbers.</exception>
    public static PipelineSchedule Create(PipelineMethod method, int ranks, int microBatches)
    {
        CheckNumbers(method, ranks, microBatches);
        Func<int, List<PipelineOp>> build = method switch
        {
            PipelineMethod.Sequential => _ => SingleDirection.Sequential(microBatches),
            PipelineMethod.OneForwardOneBackward =>
                rank => SingleDirection.OneForwardOneBackward(rank, ranks, microBatches),
            PipelineMethod.ZeroBubble => rank => SingleDirection.ZeroBubble(rank, ranks, microBatches),
            PipelineMethod.DualPipe => rank => DualPipeRank.OfDualPipe(rank, ranks, microBatches),
            _ => rank => DualPipeRank.OfDualPipeV(rank, ranks, microBatches),
        };
        return new(method, ranks, microBatches, [.. Enumerable.Range(0, ranks).Select(build)]);
    }

    private static void CheckNumbers(PipelineMethod method, int ranks, int microBatches)
    {
        if (!Enum.IsDefined(method))
        {
            throw new KreweException(
                $"no pipeline method {(int)method}; known: {string.Join(", ", PipelineMethods.Names)}");
        }

        string name = method.Name();
        bool dual = method == PipelineMethod.DualPipe;
        int least = dual || method == PipelineMethod.DualPipeV ? 2 * ranks : 1;
        string? fault = (ranks, microBatches) switch
        {
            ( < 1, _) => $"needs at least {(dual ? "2 ranks" : "1 rank")}, not {ranks}",
            (_, < 1) => $"needs at least 1 micro-batch, not {microBatches}",
            _ when dual && ranks % 2 != 0 =>
                $"needs an even number of ranks, not {ranks}: use {ranks + 1} ranks, or dualpipev, which takes any " +
                "number",
            _ when dual && microBatches % 2 != 0 =>
                $"needs an even number of micro-batches, half of them for each direction, not {microBatches}: " +
                $"use {microBatches + 1}",
            _ when microBatches < least =>
                $"over {ranks} ranks needs at least {least} micro-batches (two per rank), not {microBatches}: " +
                "use more micro-batches or fewer ranks",
            _ => null,
        };
        if (fault is not null)
        {
            throw new KreweException($"{name} {fault}");
        }
    }
}
