using System.Runtime.InteropServices;

namespace Krewe.Model.Tensors;

/// <summary>An arena in host memory: aligned blocks outside the garbage-collected heap.</summary>
/// <param name="name">What lives here, for messages.</param>
/// <param name="blockBytes">
/// Largest block to ask for ahead of need; a larger tensor gets a block of its own size.
/// </param>
/// <param name="reservedChanged">
/// Told every change of <see cref="Arena.ReservedBytes"/>, from any thread: a device's sum.
/// </param>
public sealed unsafe class HostArena(
    string name, long blockBytes = HostArena.DefaultBlockBytes, Action<long>? reservedChanged = null)
    : BlockArena(name, FirstBlockBytes, blockBytes, HostAlignment, reservedChanged)
{
    /// <summary>Default block size: 4 MiB.</summary>
    public const long DefaultBlockBytes = 4L << 20;

    private const int HostAlignment = 64;
    private const long FirstBlockBytes = 16L << 10;

    /// <summary>Frees the blocks of an arena that nobody disposed.</summary>
    ~HostArena() => Dispose(false);

    /// <inheritdoc/>
    protected override nint TakeBlock(long bytes)
    {
        try
        {
            return (nint)NativeMemory.AlignedAlloc((nuint)bytes, (nuint)Alignment);
        }
        catch (OutOfMemoryException exception)
        {
            throw new KreweException(
                $"arena '{Name}' asked for {bytes:N0} bytes and holds {ReservedBytes:N0}", exception);
        }
    }

    /// <inheritdoc/>
    protected override void GiveBlock(nint address) => NativeMemory.AlignedFree((void*)address);
}
