using System.Runtime.InteropServices;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Binds threads to cores, where the system lets it.</summary>
internal static unsafe partial class ThreadAffinity
{
    private const int MaskBytes = 128;
    private const long MinMillisecondsBetweenMoves = 2;

    [ThreadStatic]
    private static long t_nextMove;

    /// <summary>The core that the calling thread runs on, or -1 where the system does not tell.</summary>
    public static int CurrentCore => OperatingSystem.IsLinux() ? GetCore() : -1;

    /// <summary>
    /// Moves the calling thread to another core if it runs on <paramref name="core"/>, and leaves it free to move again.
    /// </summary>
    /// <remarks>Measured on a virtual machine with two cores: the kernel may leave two busy threads of a pool on one core
    /// for half a minute, which halves their speed. A change of the allowed cores moves a thread at once; binding threads
    /// for good would put the pools of several processes on the same cores.</remarks>
    public static void Leave(int core)
    {
        if (core < 0 || CurrentCore != core || Environment.TickCount64 < t_nextMove)
        {
            return;
        }

        t_nextMove = Environment.TickCount64 + MinMillisecondsBetweenMoves;
        byte* mask = stackalloc byte[MaskBytes];
        new Span<byte>(mask, MaskBytes).Clear();
        if (core >= MaskBytes * 8 || GetAffinity(0, MaskBytes, mask) < 0)
        {
            return;
        }

        byte bit = (byte)(1 << (core % 8));
        mask[core / 8] &= (byte)~bit;
        if (SetAffinity(0, MaskBytes, mask) == 0)
        {
            mask[core / 8] |= bit;
            _ = SetAffinity(0, MaskBytes, mask);
        }
    }

    /// <summary>Binds the calling thread to the core of rank <paramref name="index"/> among those it may use.</summary>
    public static void Pin(int index)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        byte* mask = stackalloc byte[MaskBytes];
        new Span<byte>(mask, MaskBytes).Clear();
        if (GetAffinity(0, MaskBytes, mask) < 0)
        {
            return;
        }

        int cores = 0;
        for (int core = 0; core < MaskBytes * 8; core++)
        {
            cores += (mask[core / 8] >> (core % 8)) & 1;
        }

        int wanted = cores == 0 ? 0 : index % cores;
        for (int core = 0; core < MaskBytes * 8; core++)
        {
            if (((mask[core / 8] >> (core % 8)) & 1) != 0 && wanted-- == 0)
            {
                new Span<byte>(mask, MaskBytes).Clear();
                mask[core / 8] = (byte)(1 << (core % 8));
                _ = SetAffinity(0, MaskBytes, mask);
                return;
            }
        }
    }

    [SuppressGCTransition]
    [LibraryImport("libc", EntryPoint = "sched_getcpu")]
    private static partial int GetCore();

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nint bytes, byte* mask);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nint bytes, byte* mask);
}
