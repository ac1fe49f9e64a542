using System.Text.Json;
using System.Text.Json.Nodes;

namespace Krewe.Model.Checkpoints;

/// <summary><c>model.safetensors.index.json</c>: which shard holds which tensor.</summary>
internal static class CheckpointIndex
{
    internal const string FileName = "model.safetensors.index.json";
    internal const string SingleFileName = "model.safetensors";

    internal static string ShardName(int index, int count) => $"model-{index + 1:D5}-of-{count:D5}.safetensors";

    /// <summary>Tensor name to shard file name.</summary>
    internal static Dictionary<string, string> Load(string path)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            Dictionary<string, string> map = new(StringComparer.Ordinal);
            if (document.RootElement.ValueKind != JsonValueKind.Object
                || !document.RootElement.TryGetProperty("weight_map", out JsonElement weights)
                || weights.ValueKind != JsonValueKind.Object)
            {
                throw new KreweException($"{path}: has no weight_map object; fetch the file again");
            }

            foreach (JsonProperty pair in weights.EnumerateObject())
            {
                string? shard = pair.Value.ValueKind == JsonValueKind.String ? pair.Value.GetString() : null;
                bool isPlain = !string.IsNullOrEmpty(shard) && Path.GetFileName(shard) == shard && shard != "..";
                if (!isPlain || !map.TryAdd(pair.Name, shard!))
                {
                    throw new KreweException(
                        $"{path}: tensor '{pair.Name}' must name one file of this folder, once; fetch the file again");
                }
            }

            return map;
        }
        catch (JsonException exception)
        {
            string message = exception.Message.ReplaceLineEndings(" ");
            throw new KreweException($"{path}: not valid JSON, fetch the file again: {message}", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"{path}: cannot be read: {exception.Message}", exception);
        }
    }

    internal static string Write(IEnumerable<KeyValuePair<string, string>> weightMap, long totalBytes)
    {
        JsonObject map = [];
        foreach ((string tensor, string shard) in weightMap.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            map[tensor] = shard;
        }

        JsonObject root = new() { ["metadata"] = new JsonObject { ["total_size"] = totalBytes }, ["weight_map"] = map };
        return root.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n";
    }
}
