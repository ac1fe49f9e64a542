namespace Krewe.Grains.Devices.Channel;

/// <summary>Faults that a test injects into a <see cref="TensorChannel"/>. Thread-safe.</summary>
public sealed class ChannelFaults
{
    private int _refusals;
    private int _corruptHeaders;
    private int _corruptValues;
    private int _framesToCut;

    /// <summary>Refuses the next <paramref name="count"/> connections of peers.</summary>
    public void RefuseConnections(int count) => Volatile.Write(ref _refusals, count);

    /// <summary>Flips a bit of the next tensor header that is sent.</summary>
    public void CorruptHeader() => Volatile.Write(ref _corruptHeaders, 1);

    /// <summary>Sends a wrong checksum after the values of the next tensor.</summary>
    public void CorruptValues() => Volatile.Write(ref _corruptValues, 1);

    /// <summary>Cuts the connection in the middle of the <paramref name="count"/>-th tensor sent from now on.</summary>
    public void CutAfterFrames(int count) => Volatile.Write(ref _framesToCut, count);

    internal bool TakeRefusal() => Take(ref _refusals);

    internal bool TakeCorruptHeader() => Take(ref _corruptHeaders);

    internal bool TakeCorruptValues() => Take(ref _corruptValues);

    internal bool TakeCut() => Volatile.Read(ref _framesToCut) > 0 && Interlocked.Decrement(ref _framesToCut) == 0;

    private static bool Take(ref int count)
    {
        while (true)
        {
            int left = Volatile.Read(ref count);
            if (left <= 0)
            {
                return false;
            }

            if (Interlocked.CompareExchange(ref count, left - 1, left) == left)
            {
                return true;
            }
        }
    }
}
