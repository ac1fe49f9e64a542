namespace Krewe.Model.Layers;

/// <summary>
/// How the tokens of one MoE layer travel to the hosts of their experts and how the results come together, along a
/// reduction tree that does not depend on where an expert lives: experts of a canonical group in index order, then
/// groups in index order (docs/ARCHITECTURE.md, section 4).
/// </summary>
/// <remarks>
/// A host that holds a whole group returns its sum as one row. Of a split group it returns the experts' rows one by one
/// and <see cref="SplitRows"/> says how the stage adds them: the same operations in the same order, so the same bits.
/// </remarks>
public sealed class DispatchPlan
{
    private readonly List<ExpertSlice> _slices = [];
    private readonly List<int> _base = [];
    private int[] _expertCursor = [];

    /// <summary>The plan where the device makes it, else null; lists and counts are empty then.</summary>
    public DeviceSlice? OnDevice { get; private set; }

    /// <summary>One slice per host; a host without tokens has an empty one.</summary>
    public IReadOnlyList<ExpertSlice> Slices => _slices;

    /// <summary>Rows that all hosts send back, one host after the other.</summary>
    public int ReturnedRows { get; private set; }

    /// <summary>Assignments per expert: the load that the bias balances.</summary>
    public int[] Load { get; private set; } = [];

    /// <summary>For each split group row its range of <see cref="SplitRows"/>.</summary>
    public List<int> SplitStarts { get; } = [];

    /// <summary>Returned rows that make up the split group rows.</summary>
    public List<int> SplitRows { get; } = [];

    /// <summary>Gate weights beside <see cref="SplitRows"/>.</summary>
    public List<float> SplitWeights { get; } = [];

    /// <summary>For each token its range of <see cref="TokenGroupRows"/>.</summary>
    public List<int> TokenStarts { get; } = [];

    /// <summary>
    /// Group rows of each token in group order: returned rows, then the split group rows behind them.
    /// </summary>
    public List<int> TokenGroupRows { get; } = [];

    /// <summary>First returned row of a host.</summary>
    public int FirstReturnedRow(int host) => _base[host];

    /// <summary>Builds the plan for the choice of one layer.</summary>
    /// <param name="chosen">[T, K]: the chosen experts, rising within a token.</param>
    /// <param name="gates">[T, K]: their weights.</param>
    /// <param name="topK">Number K of experts of a token.</param>
    /// <param name="topology">Hosts and canonical groups.</param>
    public void Build(ReadOnlySpan<int> chosen, ReadOnlySpan<float> gates, int topK, ExpertTopology topology)
    {
        Clear(topology);
        CountLoad(chosen, topology);
        Assign(chosen, gates, topK, topology);
        Reduce(chosen, gates, topK, topology);
    }

    /// <summary>Says that the device will make the plan of a layer whose experts all live on it: the same order of rows.
    /// </summary>
    /// <param name="tokens">T.</param>
    /// <param name="topK">K.</param>
    /// <param name="topology">One host for all experts.</param>
    public DeviceSlice LeaveToDevice(int tokens, int topK, ExpertTopology topology)
    {
        Clear(topology);
        ReturnedRows = 0;
        OnDevice = new(topology.OnlyHost, topology.GroupSize, checked(tokens * topK));
        ExpertSlice slice = _slices[topology.OnlyHost];
        slice.OnDevice = OnDevice;
        for (int expert = 0; expert < topology.Experts; expert++)
        {
            slice.Experts.Add(expert);
        }

        return OnDevice;
    }

    /// <summary>Takes back what <see cref="LeaveToDevice"/> said.</summary>
    public void LeaveToHost() => OnDevice = null;

    /// <summary>
    /// For each of the T * K (token, choice) pairs its assignment, counted through all hosts one after the other.
    /// </summary>
    public void FillAssignments(Span<int> assignments)
    {
        int first = 0;
        foreach (ExpertSlice slice in _slices)
        {
            for (int i = 0; i < slice.Assignments; i++)
            {
                assignments[slice.Slots[i]] = first + i;
            }

            first += slice.Assignments;
        }
    }

    private void Clear(ExpertTopology topology)
    {
        OnDevice = null;
        while (_slices.Count < topology.Hosts)
        {
            _slices.Add(new());
        }

        if (_slices.Count > topology.Hosts)
        {
            _slices.RemoveRange(topology.Hosts, _slices.Count - topology.Hosts);
        }

        foreach (ExpertSlice slice in _slices)
        {
            slice.Clear();
            slice.ReducedStarts.Add(0);
        }

        if (Load.Length != topology.Experts)
        {
            Load = new int[topology.Experts];
            _expertCursor = new int[topology.Experts];
        }

        Array.Clear(Load);
        _base.Clear();
        SplitStarts.Clear();
        SplitStarts.Add(0);
        SplitRows.Clear();
        SplitWeights.Clear();
        TokenStarts.Clear();
        TokenStarts.Add(0);
        TokenGroupRows.Clear();
    }

    private void CountLoad(ReadOnlySpan<int> chosen, ExpertTopology topology)
    {
        foreach (int expert in chosen)
        {
            Load[expert]++;
        }

        for (int expert = 0; expert < Load.Length; expert++)
        {
            ExpertSlice slice = _slices[topology.HostOf(expert)];
            _expertCursor[expert] = slice.Assignments;
            if (Load[expert] == 0)
            {
                continue;
            }

            slice.Experts.Add(expert);
            slice.Offsets.Add(slice.Assignments);
            Extend(slice.Rows, Load[expert]);
            Extend(slice.Weights, Load[expert]);
            Extend(slice.Slots, Load[expert]);
        }

        foreach (ExpertSlice slice in _slices)
        {
            slice.Offsets.Add(slice.Assignments);
        }
    }

    private void Assign(ReadOnlySpan<int> chosen, ReadOnlySpan<float> gates, int topK, ExpertTopology topology)
    {
        for (int slot = 0; slot < chosen.Length; slot++)
        {
            int token = slot / topK;
            int expert = chosen[slot];
            ExpertSlice slice = _slices[topology.HostOf(expert)];
            if (slice.TokenRows.Count == 0 || slice.TokenRows[^1] != token)
            {
                slice.TokenRows.Add(token);
            }

            int assignment = _expertCursor[expert]++;
            slice.Rows[assignment] = slice.TokenRows.Count - 1;
            slice.Weights[assignment] = gates[slot];
            slice.Slots[assignment] = slot;
        }

        // The cursors moved to the end of each expert's range; move them back for the second walk.
        for (int expert = 0; expert < Load.Length; expert++)
        {
            _expertCursor[expert] -= Load[expert];
        }
    }

    /// <summary>Second walk over the tokens: who returns which row, and how the stage adds them.</summary>
    private void Reduce(ReadOnlySpan<int> chosen, ReadOnlySpan<float> gates, int topK, ExpertTopology topology)
    {
        int[] cursor = _expertCursor;
        int tokens = topK == 0 ? 0 : chosen.Length / topK;
        for (int token = 0; token < tokens; token++)
        {
            for (int k = 0; k < topK;)
            {
                int group = topology.GroupOf(chosen[(token * topK) + k]);
                int host = topology.HostOfWholeGroup(group);
                for (; k < topK && topology.GroupOf(chosen[(token * topK) + k]) == group; k++)
                {
                    int expert = chosen[(token * topK) + k];
                    ExpertSlice slice = _slices[topology.HostOf(expert)];
                    (host >= 0 ? slice.ReducedAssignments : slice.RawAssignments).Add(cursor[expert]++);
                }

                if (host >= 0)
                {
                    _slices[host].ReducedStarts.Add(_slices[host].ReducedAssignments.Count);
                }
            }
        }

        ReturnedRows = 0;
        foreach (ExpertSlice slice in _slices)
        {
            _base.Add(ReturnedRows);
            ReturnedRows += slice.OutputRows;
        }

        Combine(chosen, gates, topK, tokens, topology);
    }

    /// <summary>Third walk: the returned row of every group, now that each host's first row is known.</summary>
    private void Combine(
        ReadOnlySpan<int> chosen, ReadOnlySpan<float> gates, int topK, int tokens, ExpertTopology topology)
    {
        Span<int> nextReduced = stackalloc int[_slices.Count];
        Span<int> nextRaw = stackalloc int[_slices.Count];
        for (int host = 0; host < _slices.Count; host++)
        {
            nextReduced[host] = _base[host];
            nextRaw[host] = _base[host] + _slices[host].ReducedRows;
        }

        for (int token = 0; token < tokens; token++)
        {
            for (int k = 0; k < topK;)
            {
                int group = topology.GroupOf(chosen[(token * topK) + k]);
                int whole = topology.HostOfWholeGroup(group);
                for (; k < topK && topology.GroupOf(chosen[(token * topK) + k]) == group; k++)
                {
                    if (whole < 0)
                    {
                        SplitRows.Add(nextRaw[topology.HostOf(chosen[(token * topK) + k])]++);
                        SplitWeights.Add(gates[(token * topK) + k]);
                    }
                }

                if (whole < 0)
                {
                    TokenGroupRows.Add(ReturnedRows + SplitStarts.Count - 1);
                    SplitStarts.Add(SplitRows.Count);
                }
                else
                {
                    TokenGroupRows.Add(nextReduced[whole]++);
                }
            }

            TokenStarts.Add(TokenGroupRows.Count);
        }
    }

    private static void Extend<T>(List<T> list, int count) =>
        System.Runtime.InteropServices.CollectionsMarshal.SetCount(list, list.Count + count);
}
