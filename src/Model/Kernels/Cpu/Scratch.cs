using System.Runtime.InteropServices;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Uses of a thread's scratch memory. Two uses that overlap in time have two names.</summary>
internal enum ScratchUse
{
    /// <summary>The packed left operand of a product.</summary>
    PackedLeft,

    /// <summary>One packed panel of the right operand.</summary>
    PackedRight,

    /// <summary>A tile of the output that sticks out of the matrix.</summary>
    EdgeTile,

    /// <summary>Descriptions of the products of a launch.</summary>
    Products,

    /// <summary>Attention probabilities, or gradients of scores.</summary>
    Scores,

    /// <summary>Gradients of attention probabilities.</summary>
    ScoreGradients,

    /// <summary>Row maxima, sums and differences of attention.</summary>
    RowStatistics,

    /// <summary>Queries of attention, rounded.</summary>
    RoundedQuery,

    /// <summary>Keys and values of attention, rounded.</summary>
    RoundedKeyValue,

    /// <summary>The shared key of attention, rounded.</summary>
    RoundedKeyRope,

    /// <summary>The gradient of attention's output, rounded.</summary>
    RoundedGradient,

    /// <summary>A copy of the query, absorbed.</summary>
    AbsorbedQuery,

    /// <summary>The context in latent space.</summary>
    AbsorbedContext,

    /// <summary>Cached latents of one sequence, brought together from their pages.</summary>
    CachedLatents,

    /// <summary>Partial sums of a kernel's master.</summary>
    Partials,

    /// <summary>The gate's biased scores.</summary>
    Gate,

    /// <summary>Values of quantised rows, or rows that are about to be quantised.</summary>
    Decoded,

    /// <summary>Operands of a launch that were stored in bfloat16.</summary>
    Widened,

    /// <summary>Scales of the columns of a panel.</summary>
    ColumnScales,

    /// <summary>The sums of one chain of a weight gradient's tile.</summary>
    Chain,

    /// <summary>Number of uses.</summary>
    Count,
}

/// <summary>Native memory of one thread, aligned to 64 bytes, grown on demand and kept.</summary>
internal sealed unsafe class Scratch
{
    [ThreadStatic]
    private static Scratch? t_current;

    private readonly nint[] _address = new nint[(int)ScratchUse.Count];
    private readonly nuint[] _bytes = new nuint[(int)ScratchUse.Count];

    /// <summary>The calling thread's scratch.</summary>
    public static Scratch Current => t_current ??= new();

    /// <summary>
    /// At least <paramref name="count"/> floats, uninitialised; what an earlier call with the same use returned is
    /// gone.
    /// </summary>
    public float* Floats(ScratchUse use, long count) => (float*)Bytes(use, count * sizeof(float));

    /// <summary>At least <paramref name="count"/> bytes, uninitialised.</summary>
    public void* Bytes(ScratchUse use, long count)
    {
        nuint bytes = (nuint)count;
        if (_bytes[(int)use] < bytes)
        {
            bytes = (Math.Max(bytes, _bytes[(int)use] + (_bytes[(int)use] / 2)) + 4095) & ~(nuint)4095;
            NativeMemory.AlignedFree((void*)_address[(int)use]);
            _bytes[(int)use] = 0;
            _address[(int)use] = 0;
            _address[(int)use] = (nint)NativeMemory.AlignedAlloc(bytes, 64);
            _bytes[(int)use] = bytes;
        }

        return (void*)_address[(int)use];
    }

    /// <summary>Frees the memory when the thread is gone.</summary>
    ~Scratch()
    {
        foreach (nint address in _address)
        {
            NativeMemory.AlignedFree((void*)address);
        }
    }
}
