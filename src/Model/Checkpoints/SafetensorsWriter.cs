using System.Buffers.Binary;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Krewe.Model.Tensors;
using Microsoft.Win32.SafeHandles;

namespace Krewe.Model.Checkpoints;

/// <summary>What a <see cref="SafetensorsWriter"/> will be given.</summary>
/// <param name="Name">Unique in the file.</param>
/// <param name="DType">Element type.</param>
/// <param name="Shape">Extent.</param>
public sealed record SafetensorsEntry(string Name, DType DType, TensorShape Shape)
{
    /// <summary>Bytes of the data.</summary>
    public long ByteCount => Shape.Count * DType.SizeInBytes();
}

/// <summary>
/// Writes a safetensors file without holding its tensors: the header, which fixes every place, goes first; then parts
/// of tensors in any order. <see cref="Finish"/> checks that nothing is missing and flushes to the disk.
/// </summary>
/// <remarks>
/// Give entries in falling element size, so that each tensor is aligned to its type. Not thread-safe.
/// </remarks>
public sealed class SafetensorsWriter : IDisposable
{
    private static readonly JsonWriterOptions _jsonOptions = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private readonly Dictionary<string, Place> _places = new(StringComparer.Ordinal);
    private readonly SafeFileHandle _handle;
    private readonly string _path;

    private sealed class Place(long offset, long bytes)
    {
        public long Offset { get; } = offset;

        public long Bytes { get; } = bytes;

        public long Written { get; set; }
    }

    private SafetensorsWriter(string path, SafeFileHandle handle)
    {
        _path = path;
        _handle = handle;
    }

    /// <summary>Creates the file and writes its header.</summary>
    /// <param name="path">Must not exist.</param>
    /// <param name="entries">The tensors in the order of their data.</param>
    /// <param name="metadata">
    /// <c>__metadata__</c>; null for <c>{"format":"pt"}</c>, which transformers asks for.
    /// </param>
    /// <exception cref="IOException">The file exists or cannot be written.</exception>
    public static SafetensorsWriter Create(
        string path, IReadOnlyList<SafetensorsEntry> entries, IReadOnlyDictionary<string, string>? metadata = null)
    {
        byte[] header = Header(entries, metadata);
        SafeFileHandle handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.None);
        SafetensorsWriter writer = new(path, handle);
        try
        {
            RandomAccess.Write(handle, header, 0);
            long offset = header.Length;
            foreach (SafetensorsEntry entry in entries)
            {
                writer._places.Add(entry.Name, new(offset, entry.ByteCount));
                offset += entry.ByteCount;
            }

            return writer;
        }
        catch
        {
            writer.Dispose();
            throw;
        }
    }

    /// <summary>Writes the next bytes of tensor <paramref name="name"/>.</summary>
    /// <exception cref="ArgumentException">No such tensor, or more bytes than it has.</exception>
    public void Append(string name, ReadOnlySpan<byte> bytes)
    {
        if (!_places.TryGetValue(name, out Place? place))
        {
            throw new ArgumentException($"{_path}: the header has no tensor '{name}'");
        }

        if (place.Written + bytes.Length > place.Bytes)
        {
            throw new ArgumentException(
                $"{_path}: tensor '{name}' has {place.Bytes} bytes and was given {place.Written + bytes.Length}");
        }

        RandomAccess.Write(_handle, bytes, place.Offset + place.Written);
        place.Written += bytes.Length;
    }

    /// <summary>Checks that every byte was given, and flushes the file to the disk.</summary>
    /// <exception cref="InvalidOperationException">A tensor is incomplete.</exception>
    public void Finish()
    {
        foreach ((string name, Place place) in _places)
        {
            if (place.Written != place.Bytes)
            {
                throw new InvalidOperationException(
                    $"{_path}: tensor '{name}' was given {place.Written} of {place.Bytes} bytes");
            }
        }

        RandomAccess.FlushToDisk(_handle);
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

    private static byte[] Header(IReadOnlyList<SafetensorsEntry> entries, IReadOnlyDictionary<string, string>? metadata)
    {
        using MemoryStream stream = new();
        stream.Write(new byte[8]);
        using (Utf8JsonWriter json = new(stream, _jsonOptions))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            foreach ((string key, string value) in metadata ?? new Dictionary<string, string> { ["format"] = "pt" })
            {
                json.WriteString(key, value);
            }

            json.WriteEndObject();
            long offset = 0;
            foreach (SafetensorsEntry entry in entries)
            {
                WriteEntry(json, entry, offset);
                offset += entry.ByteCount;
            }

            json.WriteEndObject();
        }

        stream.Write(Encoding.ASCII.GetBytes(new string(' ', (int)(-stream.Length & 7))));
        byte[] header = stream.ToArray();
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)header.Length - 8);
        return header;
    }

    private static void WriteEntry(Utf8JsonWriter json, SafetensorsEntry entry, long offset)
    {
        json.WriteStartObject(entry.Name);
        json.WriteString("dtype", SafetensorsTypes.NameOf(entry.DType));
        json.WriteStartArray("shape");
        foreach (long extent in entry.Shape.ToArray())
        {
            json.WriteNumberValue(extent);
        }

        json.WriteEndArray();
        json.WriteStartArray("data_offsets");
        json.WriteNumberValue(offset);
        json.WriteNumberValue(offset + entry.ByteCount);
        json.WriteEndArray();
        json.WriteEndObject();
    }
}
