using System.Collections.Concurrent;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// Hands objects from one silo to another of the same process without a copy: a grain call carries the ticket, the
/// receiver takes the object. A ticket is good for one taking.
/// </summary>
public static class ProcessExchange
{
    private static readonly ConcurrentDictionary<long, object> Objects = new();
    private static long _lastTicket;

    /// <summary>Identity of this process among all processes of a cluster.</summary>
    public static Guid ProcessId { get; } = Guid.NewGuid();

    /// <summary>Objects published and not yet taken.</summary>
    public static int Count => Objects.Count;

    /// <summary>Publishes an object and returns its ticket.</summary>
    public static long Publish(object value)
    {
        long ticket = Interlocked.Increment(ref _lastTicket);
        Objects[ticket] = value;
        return ticket;
    }

    /// <summary>Takes the object of a ticket.</summary>
    /// <exception cref="InvalidOperationException">No such ticket, or it was taken before.</exception>
    public static T Take<T>(long ticket) =>
        Objects.TryRemove(ticket, out object? value)
            ? (T)value
            : throw new InvalidOperationException($"ticket {ticket} is unknown in this process or was taken before");

    /// <summary>Withdraws a ticket whose call failed; nothing happens where it was taken.</summary>
    public static void Withdraw(long ticket) => Objects.TryRemove(ticket, out _);
}
