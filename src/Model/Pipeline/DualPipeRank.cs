namespace Krewe.Model.Pipeline;

/// <summary>
/// Writes the list of one rank under DualPipe (report 3.2.1) or DualPipeV: the eight steps of
/// <see cref="DualPipeSteps"/>, in terms of phase 0 and phase 1.
/// </summary>
internal sealed class DualPipeRank
{
    private readonly List<PipelineOp> _ops = [];
    private readonly Queue<PipelineTask> _pendingWeights = new();
    private readonly int[] _forwards = new int[2];
    private readonly int[] _backwards = new int[2];
    private readonly bool _swapped;

    /// <param name="swapped">Phase 0 is chunk 1: the second half of the ranks under DualPipe.</param>
    private DualPipeRank(bool swapped) => _swapped = swapped;

    /// <summary>The list of a rank that has a stage of each direction; M is even and at least 2P.</summary>
    public static List<PipelineOp> OfDualPipe(int rank, int ranks, int microBatches)
    {
        int half = ranks / 2;
        int depth = Math.Min(rank, ranks - 1 - rank);
        var steps = DualPipeSteps.Of(depth, half, microBatches / 2);
        return new DualPipeRank(swapped: rank >= half).Build(steps, isMiddle: depth == half - 1);
    }

    /// <summary>The list of a rank that has two stages of the one direction; M is at least 2P.</summary>
    public static List<PipelineOp> OfDualPipeV(int rank, int ranks, int microBatches) =>
        new DualPipeRank(swapped: false)
            .Build(DualPipeSteps.Of(rank, ranks, microBatches), isMiddle: rank == ranks - 1);

    private List<PipelineOp> Build(DualPipeSteps steps, bool isMiddle)
    {
        // Step 1, nF0
        Repeat(steps.NF0, _ => Forward(0));

        // Step 2, nF0F1
        Repeat(steps.NF0F1, _ => { Forward(0); Forward(1); });

        // Step 3, nB1W1F1
        Repeat(steps.NB1W1F1, _ => { BackwardInput(1); BackwardWeight(); Forward(1); });

        // Step 4, nF0B1F1B0: a middle rank gets B1's gradient from its own F1, so that pairing the first would only
        // make the others wait.
        Repeat(steps.NF0B1F1B0, i =>
        {
            if (i == 0 && isMiddle)
            {
                Forward(0);
                Backward(1);
            }
            else
            {
                Pair(0, 1);
            }

            Pair(1, 0);
        });

        // Step 5, nB1F1B0
        Repeat(steps.NB1F1B0, _ => { Backward(1); Pair(1, 0); });

        // Step 6, nB1B0
        int done = 0;
        Repeat(steps.NB1B0, _ =>
        {
            for (int phase = 1; phase >= 0; phase--, done++)
            {
                if (done < steps.WholeBackwards)
                {
                    Backward(phase);
                }
                else
                {
                    BackwardInput(phase);
                }
            }
        });

        // Step 7, nWB0
        Repeat(steps.NWB0, _ => { BackwardWeight(); BackwardInput(0); });

        // Step 8, nW
        Repeat(steps.NW, _ => BackwardWeight());
        return _ops;
    }

    private static void Repeat(int count, Action<int> body)
    {
        for (int i = 0; i < count; i++)
        {
            body(i);
        }
    }

    private void Forward(int phase) => _ops.Add(new(NextForward(phase)));

    private void Backward(int phase) => _ops.Add(new(NextBackward(PipelineWork.Backward, phase)));

    private void Pair(int forward, int backward) =>
        _ops.Add(new(NextForward(forward), NextBackward(PipelineWork.Backward, backward)));

    private void BackwardInput(int phase)
    {
        PipelineTask task = NextBackward(PipelineWork.BackwardInput, phase);
        _ops.Add(new(task));
        _pendingWeights.Enqueue(task);
    }

    /// <summary>The oldest deferred weight gradient, of either phase.</summary>
    private void BackwardWeight() =>
        _ops.Add(new(_pendingWeights.Dequeue() with { Work = PipelineWork.BackwardWeight }));

    private PipelineTask NextForward(int phase) => new(PipelineWork.Forward, ChunkOf(phase), _forwards[phase]++);

    private PipelineTask NextBackward(PipelineWork work, int phase) => new(work, ChunkOf(phase), _backwards[phase]++);

    private int ChunkOf(int phase) => _swapped ? 1 - phase : phase;
}
