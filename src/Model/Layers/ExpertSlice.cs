namespace Krewe.Model.Layers;

/// <summary>
/// The work of one host in one MoE layer for one micro-batch: which rows it receives, which expert takes which row, and
/// how the results are reduced before they travel back. An <i>assignment</i> is one (token, expert) pair; they are
/// ordered by expert, then by token.
/// </summary>
/// <remarks>
/// Lists are reused from step to step: a receiver may keep a slice until the next forward of its layer and slot.
/// </remarks>
public sealed class ExpertSlice
{
    /// <summary>The stage's row of each row that travels, rising: a token goes to a host once.</summary>
    public List<int> TokenRows { get; } = [];

    /// <summary>Experts that got at least one token, rising.</summary>
    public List<int> Experts { get; } = [];

    /// <summary>
    /// Offsets into the assignments: expert i of <see cref="Experts"/> has [offsets[i], offsets[i+1]).
    /// </summary>
    public List<int> Offsets { get; } = [];

    /// <summary>Received row of each assignment.</summary>
    public List<int> Rows { get; } = [];

    /// <summary>Gate weight of each assignment.</summary>
    public List<float> Weights { get; } = [];

    /// <summary>Position of each assignment in the stage's [T, K] arrays.</summary>
    public List<int> Slots { get; } = [];

    /// <summary>
    /// For each reduced row (token and whole canonical group) its range of <see cref="ReducedAssignments"/>.
    /// </summary>
    public List<int> ReducedStarts { get; } = [];

    /// <summary>Assignments of the reduced rows, experts rising within a row.</summary>
    public List<int> ReducedAssignments { get; } = [];

    /// <summary>Assignments of split groups, returned one by one after the reduced rows.</summary>
    public List<int> RawAssignments { get; } = [];

    /// <summary>
    /// The slice as tensors where the device made it, else null: then all experts are in <see cref="Experts"/>, every row
    /// travels, results come back assignment by assignment, and the other lists are empty.
    /// </summary>
    public DeviceSlice? OnDevice { get; internal set; }

    /// <summary>Number of (token, expert) pairs.</summary>
    public int Assignments => OnDevice?.Assignments ?? Rows.Count;

    /// <summary>Number of reduced rows.</summary>
    public int ReducedRows => ReducedStarts.Count - 1;

    /// <summary>Rows that travel back.</summary>
    public int OutputRows => ReducedRows + RawAssignments.Count;

    /// <summary>Tokens of an expert of <see cref="Experts"/>; 0 where only the device knows them.</summary>
    public int TokensOf(int expert) => OnDevice is null ? Offsets[expert + 1] - Offsets[expert] : 0;

    /// <summary>Gate weight of each of <see cref="ReducedAssignments"/>.</summary>
    internal void FillReducedWeights(Span<float> weights)
    {
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] = Weights[ReducedAssignments[i]];
        }
    }

    /// <summary>Empties every list, keeping their memory.</summary>
    internal void Clear()
    {
        OnDevice = null;
        TokenRows.Clear();
        Experts.Clear();
        Offsets.Clear();
        Rows.Clear();
        Weights.Clear();
        Slots.Clear();
        ReducedStarts.Clear();
        ReducedAssignments.Clear();
        RawAssignments.Clear();
    }
}
