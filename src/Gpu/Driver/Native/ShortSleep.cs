using System.Runtime.InteropServices;

namespace Krewe.Gpu.Driver.Native;

/// <summary>Sleeps of less than a millisecond, which .NET has not.</summary>
internal static unsafe partial class ShortSleep
{
    private const int NanosecondsOfMicrosecond = 1000;

    /// <summary>Whether this system has them.</summary>
    public static bool IsSupported => OperatingSystem.IsLinux();

    /// <summary>Lets the thread sleep for about so long, below a second; the system adds some 50 us.</summary>
    public static void Microseconds(int microseconds)
    {
        var duration = new Timespec(0, microseconds * NanosecondsOfMicrosecond);
        _ = nanosleep(&duration, null);
    }

    [LibraryImport("libc")]
    private static partial int nanosleep(Timespec* duration, Timespec* left);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Timespec(nint Seconds, nint Nanoseconds);
}
