using System.Runtime.InteropServices;

namespace Krewe.Model.Tensors;

/// <summary>
/// Settings of the C library's heap, in which <see cref="HostArena"/>'s blocks lie. By default glibc raises the size
/// from which a block gets a mapping of its own up to 32 MiB as blocks are freed, and keeps a heap per thread: what a
/// silo frees when experts leave it stays with the process, in pieces. A soak of four silos held two fifths of its
/// native memory that way after five minutes.
/// </summary>
public static partial class NativeHeap
{
    private const int MMapThreshold = -3;
    private const int ArenaMax = -8;
    private const int MappedFrom = 128 << 10;
    private const int Heaps = 2;

    /// <summary>
    /// From here on, a freed block of 128 KiB or more goes back to the system at once. To be called once, before
    /// threads have heaps of their own; does nothing with another C library than glibc.
    /// </summary>
    public static void ReturnFreedBlocks()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        try
        {
            _ = SetOption(MMapThreshold, MappedFrom);
            _ = SetOption(ArenaMax, Heaps);
        }
        catch (Exception exception) when (exception is EntryPointNotFoundException or DllNotFoundException)
        {
            // musl has neither the option nor the habit.
        }
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int SetOption(int option, int value);
}
