namespace Krewe.Gpu.Driver;

/// <summary>Who holds which blocks of a device's memory: what a message says when it runs out. Thread-safe.</summary>
internal sealed class MemoryLedger
{
    private const int LargestShown = 3;
    private readonly Dictionary<nint, (string Holder, long Bytes)> _blocks = [];

    /// <summary>A block was handed out.</summary>
    public void Add(nint address, string holder, long bytes)
    {
        lock (_blocks)
        {
            _blocks[address] = (holder, bytes);
        }
    }

    /// <summary>A block came back.</summary>
    public void Remove(nint address)
    {
        lock (_blocks)
        {
            _blocks.Remove(address);
        }
    }

    /// <summary>Such as <c>cuda:0/experts 1,024, cuda:0/cache 512 and 2 more 100</c>; <c>nothing</c> where none.</summary>
    public override string ToString()
    {
        (string Holder, long Bytes)[] holders;
        lock (_blocks)
        {
            holders =
            [
                .. _blocks.Values.GroupBy(block => block.Holder, StringComparer.Ordinal)
                    .Select(blocks => (Holder: blocks.Key, Bytes: blocks.Sum(block => block.Bytes)))
                    .OrderByDescending(holder => holder.Bytes).ThenBy(holder => holder.Holder, StringComparer.Ordinal),
            ];
        }

        if (holders.Length == 0)
        {
            return "nothing";
        }

        string shown = string.Join(
            ", ", holders.Take(LargestShown).Select(holder => $"{holder.Holder} {holder.Bytes:N0}"));
        long rest = holders.Skip(LargestShown).Sum(holder => holder.Bytes);
        return rest == 0 ? shown : $"{shown} and {holders.Length - LargestShown} more {rest:N0}";
    }
}
