using System.Runtime.InteropServices;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>Binds threads to cores, where the system lets it.</summary>
internal static unsafe partial class ThreadAffinity
{
    private const int MaskBytes = 128;

    /// <summary>Binds the calling thread to the core of rank <paramref name="index"/> among those it may use.</summary>
    public static void Pin(int index)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        byte* mask = stackalloc byte[MaskBytes];
        new Span<byte>(mask, MaskBytes).Clear();
        if (GetAffinity(0, MaskBytes, mask) != 0)
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

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nint bytes, byte* mask);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nint bytes, byte* mask);
}
