using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Krewe.Model.Checkpoints;

/// <summary>
/// A safetensors file mapped into memory: opening reads the header alone, the operating system pages data in as it is
/// touched. Format: 8-byte little-endian header length, JSON header, data.
/// </summary>
/// <remarks>Thread-safe for reading. Spans and addresses die with Dispose.</remarks>
public sealed unsafe class SafetensorsFile : IDisposable
{
    private const int LengthBytes = 8;
    private const long LargestHeader = 100_000_000;

    private readonly Dictionary<string, SafetensorsTensor> _byName;
    private readonly MemoryMappedFile _mapping;
    private readonly MemoryMappedViewAccessor _view;
    private byte* _start;

    private SafetensorsFile(
        string path, MemoryMappedFile mapping, MemoryMappedViewAccessor view, byte* start,
        List<SafetensorsTensor> tensors, Dictionary<string, string> metadata)
    {
        Path = path;
        Tensors = tensors;
        Metadata = metadata;
        _byName = tensors.ToDictionary(tensor => tensor.Name, StringComparer.Ordinal);
        _mapping = mapping;
        _view = view;
        _start = start;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The tensors in the order of their data.</summary>
    public IReadOnlyList<SafetensorsTensor> Tensors { get; }

    /// <summary><c>__metadata__</c>; empty where there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Maps the file and checks its header.</summary>
    /// <exception cref="KreweException">
    /// Missing, cut short or damaged; the message says what and what to do.
    /// </exception>
    public static SafetensorsFile Open(string path)
    {
        MemoryMappedFile? mapping = null;
        MemoryMappedViewAccessor? view = null;
        try
        {
            long length = new FileInfo(path).Length;
            if (length < LengthBytes)
            {
                throw new KreweException(
                    $"{path}: {length} bytes are no safetensors file, it is cut short; fetch or write it again");
            }

            mapping = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
            byte* start = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            try
            {
                long dataOffset = ReadHeaderLength(new(start, LengthBytes), length, path) + LengthBytes;
                byte[] json = new ReadOnlySpan<byte>(start + LengthBytes, (int)dataOffset - LengthBytes).ToArray();
                (List<SafetensorsTensor> tensors, Dictionary<string, string> metadata) =
                    SafetensorsHeader.Parse(json, dataOffset, length - dataOffset, path);
                return new(path, mapping, view, start, tensors, metadata);
            }
            catch
            {
                view.SafeMemoryMappedViewHandle.ReleasePointer();
                throw;
            }
        }
        catch (Exception exception)
        {
            view?.Dispose();
            mapping?.Dispose();
            switch (exception)
            {
                case FileNotFoundException or DirectoryNotFoundException:
                    throw new KreweException($"{path}: no such file; is the download complete?", exception);
                case IOException or UnauthorizedAccessException:
                    throw new KreweException($"{path}: cannot be read: {exception.Message}", exception);
                default:
                    throw;
            }
        }
    }

    /// <summary>Whether the file holds <paramref name="name"/>.</summary>
    public bool TryGet(string name, out SafetensorsTensor tensor) => _byName.TryGetValue(name, out tensor!);

    /// <summary>The tensor called <paramref name="name"/>.</summary>
    /// <exception cref="KreweException">There is none.</exception>
    public SafetensorsTensor this[string name] => TryGet(name, out SafetensorsTensor tensor)
        ? tensor
        : throw new KreweException($"{Path}: holds no tensor '{name}'");

    /// <summary>Address of the first byte of <paramref name="tensor"/>, valid until Dispose; not aligned.</summary>
    public nint Address(SafetensorsTensor tensor)
    {
        ObjectDisposedException.ThrowIf(_start == null, this);
        return (nint)(_start + tensor.Offset);
    }

    /// <summary>Part of a tensor's bytes.</summary>
    /// <param name="tensor">A tensor of this file.</param>
    /// <param name="start">First byte, from the start of the tensor.</param>
    /// <param name="count">Bytes.</param>
    public ReadOnlySpan<byte> Bytes(SafetensorsTensor tensor, long start, int count) =>
        start < 0 || count < 0 || start + count > tensor.ByteCount
            ? throw new ArgumentOutOfRangeException(
                nameof(start), $"bytes {start}..{start + count} of '{tensor.Name}', which has {tensor.ByteCount}")
            : new((byte*)Address(tensor) + start, count);

    /// <summary>All bytes of a tensor of less than 2 GiB.</summary>
    public ReadOnlySpan<byte> Bytes(SafetensorsTensor tensor) => Bytes(tensor, 0, checked((int)tensor.ByteCount));

    /// <summary>A copy of a tensor's elements as they are stored, such as <c>long</c> for <c>I64</c>.</summary>
    /// <exception cref="KreweException">No such tensor, or elements of another size.</exception>
    public T[] ReadArray<T>(string name) where T : unmanaged
    {
        SafetensorsTensor tensor = this[name];
        return SafetensorsTypes.SizeInBytes(tensor.StoredType) == Unsafe.SizeOf<T>()
            ? MemoryMarshal.Cast<byte, T>(Bytes(tensor)).ToArray()
            : throw new KreweException($"{Path}: tensor '{name}' holds {tensor.StoredType}, not {typeof(T).Name}");
    }

    /// <summary>A copy of a tensor's elements as float32, without any block scale.</summary>
    /// <exception cref="KreweException">No such tensor, or none of a floating type.</exception>
    public float[] ReadFloat32(string name)
    {
        SafetensorsTensor tensor = this[name];
        float[] values = new float[tensor.Count];
        TensorConversion.ToFloat32(tensor.DType, Bytes(tensor), values);
        return values;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_start != null)
        {
            _start = null;
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _mapping.Dispose();
        }
    }

    private static long ReadHeaderLength(ReadOnlySpan<byte> first, long fileLength, string path)
    {
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(first);
        return length <= LargestHeader && (long)length <= fileLength - LengthBytes
            ? (long)length
            : throw new KreweException(
                $"{path}: the header claims {length} bytes, the file has {fileLength} (limit {LargestHeader}): " +
                "it is cut short or no safetensors file; fetch or write it again");
    }
}
