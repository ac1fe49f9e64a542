using System.Globalization;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Kernels.Attention;

/// <summary>
/// Head sizes that attention on the tensor cores is compiled for, and what its launches need; mirrors
/// <c>FlashShape.cuh</c> and the <c>Memory</c> of each kernel.
/// </summary>
/// <param name="Nope">Elements of queries and keys without position.</param>
/// <param name="Rope">Elements of queries and keys that carry the position.</param>
/// <param name="Value">Elements of values.</param>
internal readonly record struct FlashHeads(int Nope, int Rope, int Value)
{
    /// <summary>Threads of a block: two warpgroups multiply, one loads.</summary>
    public const int Threads = 384;

    /// <summary>Tokens of a block's tile.</summary>
    public const int TileRows = 128;

    /// <summary>Rows of the boxes that the copy engine brings.</summary>
    public const int BoxRows = 64;

    /// <summary>Columns of the boxes of bfloat16.</summary>
    public const int BoxColumns = 64;

    /// <summary>Floats that the gradients' kernels have of each token and head.</summary>
    public const int StatisticsColumns = 4;

    private const int Step = 16;
    private const int MostKeyChunks = 3;
    private const int MostValueChunks = 2;
    private const int BytesOfChunkRow = BoxColumns * 2;
    private const int Stages = 3;
    private const int BarrierBytes = 8;

    /// <summary>The sizes of a call.</summary>
    public FlashHeads(in AttentionShape attention) : this(attention.NopeDim, attention.RopeDim, attention.ValueDim)
    {
    }

    /// <summary>
    /// Whether there are kernels for these sizes: multiples of 16 that fit into registers and shared memory.
    /// </summary>
    public bool Fit => Nope > 0 && Rope > 0 && Nope % Step == 0 && Rope % Step == 0 && Value % Step == 0
        && KeyChunks <= MostKeyChunks && ValueChunks <= MostValueChunks;

    /// <summary>Options of the run-time compiler.</summary>
    public IReadOnlyList<string> Options => [Define("NOPE", Nope), Define("ROPE", Rope), Define("VALUE", Value)];

    /// <summary>Dynamic shared memory of <c>flash_attention</c>: queries, two stages of 128 keys and values.</summary>
    public int ForwardBytes =>
        (TileRows * KeyRowBytes) + (2 * TileRows * (KeyRowBytes + ValueRowBytes)) + (9 * BarrierBytes);

    /// <summary>Of <c>flash_query_gradient</c>: queries and gradients, three stages of 64 keys and values.</summary>
    public int QueryGradientBytes => GradientBytes;

    /// <summary>Of <c>flash_key_gradient</c>: keys and values, three stages of 64 queries, with statistics.</summary>
    public int KeyGradientBytes => GradientBytes + (Stages * BoxRows * StatisticsColumns * sizeof(float));

    private int GradientBytes =>
        ((TileRows + (Stages * BoxRows)) * (KeyRowBytes + ValueRowBytes)) + (((2 * Stages) + 1) * BarrierBytes);

    private int KeyChunks => Chunks(Nope) + Chunks(Rope);

    private int ValueChunks => Chunks(Value);

    private int KeyRowBytes => KeyChunks * BytesOfChunkRow;

    private int ValueRowBytes => ValueChunks * BytesOfChunkRow;

    private static int Chunks(int columns) => (columns + BoxColumns - 1) / BoxColumns;

    private static string Define(string name, int value) =>
        string.Create(CultureInfo.InvariantCulture, $"--define-macro=KREWE_{name}={value}");
}
