using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Layers;

namespace Krewe.Grains.Interfaces.Experts;

/// <summary>An <see cref="ExpertSlice"/> on its way: a ticket within a process, its lists between processes.</summary>
[GenerateSerializer, Immutable, Alias("krewe.ExpertSliceParcel")]
public sealed class ExpertSliceParcel
{
    [Id(0)] private readonly long _ticket;
    [Id(1)] private readonly int[][]? _lists;
    [Id(2)] private readonly float[]? _weights;

    private ExpertSliceParcel(long ticket, int[][]? lists, float[]? weights)
    {
        _ticket = ticket;
        _lists = lists;
        _weights = weights;
    }

    /// <summary>Wraps a slice for a receiver.</summary>
    public static ExpertSliceParcel Of(ExpertSlice slice, bool sameProcess) => sameProcess
        ? new(ProcessExchange.Publish(slice), null, null)
        : new(
            0,
            [
                [.. slice.Experts], [.. slice.Offsets], [.. slice.Rows], [.. slice.ReducedStarts],
                [.. slice.ReducedAssignments], [.. slice.RawAssignments],
            ],
            [.. slice.Weights]);

    /// <summary>
    /// The slice. Fields that only the sender needs (token rows, slots) are empty where it came by bytes.
    /// </summary>
    public ExpertSlice Open()
    {
        if (_lists is null)
        {
            return ProcessExchange.Take<ExpertSlice>(_ticket);
        }

        var slice = new ExpertSlice();
        slice.Experts.AddRange(_lists[0]);
        slice.Offsets.AddRange(_lists[1]);
        slice.Rows.AddRange(_lists[2]);
        slice.ReducedStarts.AddRange(_lists[3]);
        slice.ReducedAssignments.AddRange(_lists[4]);
        slice.RawAssignments.AddRange(_lists[5]);
        slice.Weights.AddRange(_weights!);
        return slice;
    }

    /// <summary>Withdraws the ticket of a call that failed.</summary>
    public void Withdraw()
    {
        if (_lists is null)
        {
            ProcessExchange.Withdraw(_ticket);
        }
    }
}
