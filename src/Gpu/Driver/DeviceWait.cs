using System.Diagnostics;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Waits for a device by looking every 80 us or so. The driver's own wait wakes a sleeper by an interrupt, which on a virtual
/// machine with an H100 came 60 us late as a rule and 2 ms late at times; and it has no deadline, so that a kernel which does not
/// end would keep the process. Costs the thread some 1 % of a core while it waits.
/// </summary>
internal static class DeviceWait
{
    /// <summary>No work of ours comes near it: forward and backward of a whole batch take seconds.</summary>
    public static readonly TimeSpan Deadline = TimeSpan.FromMinutes(5);

    /// <summary>Looks without a sleep between them, some 20 us, before it sleeps.</summary>
    private const int Spins = 10;
    private const int SleepMicroseconds = 20;

    /// <summary>Returns once <paramref name="isDone"/> says so of <paramref name="what"/>.</summary>
    /// <param name="what">What is looked at.</param>
    /// <param name="isDone">Asks the driver.</param>
    /// <param name="call">The driver's function that it asks.</param>
    /// <param name="deadline">How long; <see cref="Deadline"/> where left out.</param>
    /// <exception cref="CudaException">The deadline is over: a fault that loses the device.</exception>
    public static void Until<T>(T what, Func<T, bool> isDone, string call, TimeSpan? deadline = null)
    {
        TimeSpan limit = deadline ?? Deadline;
        long start = Stopwatch.GetTimestamp();
        for (int look = 0; !isDone(what); look++)
        {
            if (look < Spins)
            {
                continue;
            }

            if (Stopwatch.GetElapsedTime(start) > limit)
            {
                throw new CudaException(
                    call, CudaResult.LaunchTimeout, CudaResult.ErrorName(CudaResult.LaunchTimeout),
                    $"not done within {limit.TotalSeconds:N0} s");
            }

            if (ShortSleep.IsSupported)
            {
                ShortSleep.Microseconds(SleepMicroseconds);
            }
            else
            {
                Thread.Sleep(1);
            }
        }
    }
}
