using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels;

/// <summary>
/// Reads index tensors in host memory and throws <see cref="ArgumentException"/> at the first bad value.
/// </summary>
internal sealed unsafe class HostIndexChecks : IIndexChecks
{
    /// <summary>The one there is.</summary>
    public static HostIndexChecks Instance { get; } = new();

    /// <inheritdoc/>
    public void RowNumbers(Tensor rows, int limit, bool allowNegative, string name)
    {
        for (int i = 0; i < rows.Count; i++)
        {
            int value = rows.Ints[i];
            if (value >= limit || (value < 0 && !allowNegative))
            {
                throw new ArgumentException(IndexFaults.Row(name, i, limit, value), name);
            }
        }
    }

    /// <inheritdoc/>
    public void Experts(Tensor indices, int experts)
    {
        for (int t = 0; t < indices.Rows; t++)
        {
            for (int k = 0; k < indices.Columns; k++)
            {
                int expert = indices.Ints[((nint)t * indices.RowStride) + k];
                if ((uint)expert >= (uint)experts)
                {
                    throw new ArgumentException(IndexFaults.Expert(t, k, experts, expert), nameof(indices));
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Starts(Tensor starts, int total, string name)
        => KernelChecks.Starts(new ReadOnlySpan<int>(starts.Ints, checked((int)starts.Count)), total, name);
}

/// <summary>What is said of a bad index, on every backend.</summary>
internal static class IndexFaults
{
    /// <summary>A row number that names no row.</summary>
    public static string Row(string name, long position, int limit, int value)
        => $"{name}[{position}]: expected a row below {limit}, got {value}";

    /// <summary>An expert that does not exist.</summary>
    public static string Expert(long token, long choice, int experts, int value)
        => $"indices[{token}, {choice}]: expected an expert below {experts}, got {value}";

    /// <summary>Offsets that do not span what they should.</summary>
    public static string Span(string name, int total, string actual)
        => $"{name}: expected offsets from 0 to {total}, got {actual}";

    /// <summary>An offset that falls back.</summary>
    public static string Offset(string name, long position, int atLeast, int value)
        => $"{name}[{position}]: expected at least {atLeast}, got {value}";
}
