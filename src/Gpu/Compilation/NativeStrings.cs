using System.Runtime.InteropServices;

namespace Krewe.Gpu.Compilation;

/// <summary>An array of zero-terminated strings in native memory, as C programs take their options.</summary>
internal sealed unsafe class NativeStrings : IDisposable
{
    private readonly nint[] _strings;

    /// <summary>Copies of <paramref name="values"/> as UTF-8.</summary>
    public NativeStrings(IEnumerable<string> values)
    {
        _strings = [.. values.Select(Marshal.StringToCoTaskMemUTF8)];
        Pointer = (byte**)NativeMemory.Alloc((nuint)Math.Max(1, _strings.Length), (nuint)sizeof(nint));
        _strings.CopyTo(new Span<nint>(Pointer, _strings.Length));
    }

    /// <summary>The array.</summary>
    public byte** Pointer { get; private set; }

    /// <summary>Number of strings.</summary>
    public int Count => _strings.Length;

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_strings, Marshal.FreeCoTaskMem);
        NativeMemory.Free(Pointer);
        Pointer = null;
    }
}
