using System.Text.Json;

namespace Krewe.Model.Checkpoints;

/// <summary>
/// The JSON header of a safetensors file. Stricter than most readers: the tensors must fill the data without a hole, an
/// overlap or a rest, and every byte count must be its shape's.
/// </summary>
internal static class SafetensorsHeader
{
    private const string Again = "the file is damaged; fetch or write it again";

    internal static (List<SafetensorsTensor> Tensors, Dictionary<string, string> Metadata) Parse(
        ReadOnlyMemory<byte> json, long dataOffset, long dataBytes, string path)
    {
        List<SafetensorsTensor> tensors = [];
        Dictionary<string, string> metadata = new(StringComparer.Ordinal);
        HashSet<string> names = new(StringComparer.Ordinal);
        using JsonDocument document = ParseJson(json, path);
        foreach (JsonProperty entry in document.RootElement.EnumerateObject())
        {
            if (!names.Add(entry.Name))
            {
                throw new KreweException($"{path}: the header names '{entry.Name}' twice; {Again}");
            }

            if (entry.Name == "__metadata__")
            {
                ReadMetadata(entry.Value, metadata, path);
            }
            else
            {
                tensors.Add(ReadTensor(entry, dataOffset, dataBytes, path));
            }
        }

        // An empty tensor may share its offset with its neighbour: it comes first.
        tensors.Sort((left, right) => (left.Offset, left.ByteCount).CompareTo((right.Offset, right.ByteCount)));
        RequireDense(tensors, dataOffset, dataBytes, path);
        return (tensors, metadata);
    }

    private static JsonDocument ParseJson(ReadOnlyMemory<byte> json, string path)
    {
        try
        {
            JsonDocument document = JsonDocument.Parse(json);
            if (document.RootElement.ValueKind == JsonValueKind.Object)
            {
                return document;
            }

            document.Dispose();
            throw new KreweException($"{path}: the header is no JSON object; {Again}");
        }
        catch (JsonException exception)
        {
            string message = exception.Message.ReplaceLineEndings(" ");
            throw new KreweException($"{path}: the header is not valid JSON ({message}); {Again}", exception);
        }
    }

    private static void ReadMetadata(JsonElement element, Dictionary<string, string> metadata, string path)
    {
        if (element.ValueKind != JsonValueKind.Object)
        {
            throw new KreweException($"{path}: __metadata__ is no JSON object; {Again}");
        }

        foreach (JsonProperty pair in element.EnumerateObject())
        {
            metadata[pair.Name] = pair.Value.ValueKind == JsonValueKind.String
                ? pair.Value.GetString()!
                : throw new KreweException($"{path}: __metadata__ '{pair.Name}' is no string; {Again}");
        }
    }

    private static SafetensorsTensor ReadTensor(JsonProperty entry, long dataOffset, long dataBytes, string path)
    {
        string name = entry.Name;
        if (entry.Value.ValueKind != JsonValueKind.Object
            || !entry.Value.TryGetProperty("dtype", out JsonElement dtype) || dtype.ValueKind != JsonValueKind.String
            || !entry.Value.TryGetProperty("shape", out JsonElement shape) || !TryReadNumbers(shape, out long[] extents)
            || !entry.Value.TryGetProperty("data_offsets", out JsonElement offsets)
            || !TryReadNumbers(offsets, out long[] range) || range.Length != 2)
        {
            throw new KreweException($"{path}: tensor '{name}' lacks a proper dtype, shape or data_offsets; {Again}");
        }

        string type = dtype.GetString()!;
        if (!SafetensorsTypes.IsKnown(type))
        {
            throw new KreweException($"{path}: tensor '{name}' has the unknown dtype '{type}'; convert the file first");
        }

        (long begin, long end) = (range[0], range[1]);
        if (begin > end || end > dataBytes)
        {
            throw new KreweException(
                $"{path}: tensor '{name}' lies at bytes {begin}..{end} of {dataBytes}: " +
                "the file is cut short or damaged; fetch or write it again");
        }

        UInt128 expected = (UInt128)SafetensorsTypes.SizeInBytes(type);
        foreach (long extent in extents)
        {
            expected = expected > ulong.MaxValue ? expected : expected * (UInt128)extent;
        }

        return expected == (UInt128)(end - begin)
            ? new(name, type, extents, dataOffset + begin, end - begin)
            : throw new KreweException(
                $"{path}: tensor '{name}' of {type} [{string.Join(", ", extents)}] needs {expected} bytes and has " +
                $"{end - begin}; {Again}");
    }

    private static bool TryReadNumbers(JsonElement element, out long[] numbers)
    {
        numbers = [];
        if (element.ValueKind != JsonValueKind.Array)
        {
            return false;
        }

        numbers = new long[element.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in element.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt64(out numbers[i]) || numbers[i++] < 0)
            {
                return false;
            }
        }

        return true;
    }

    private static void RequireDense(List<SafetensorsTensor> tensors, long dataOffset, long dataBytes, string path)
    {
        long position = dataOffset;
        string before = "the header";
        foreach (SafetensorsTensor tensor in tensors)
        {
            if (tensor.Offset < position)
            {
                throw new KreweException($"{path}: tensors {before} and '{tensor.Name}' overlap; {Again}");
            }

            if (tensor.Offset > position)
            {
                throw new KreweException(
                    $"{path}: a hole of {tensor.Offset - position} bytes between {before} and '{tensor.Name}'; " +
                    Again);
            }

            position += tensor.ByteCount;
            before = $"'{tensor.Name}'";
        }

        if (position != dataOffset + dataBytes)
        {
            throw new KreweException(
                $"{path}: {dataOffset + dataBytes - position} bytes after {before} belong to no tensor; {Again}");
        }
    }
}
