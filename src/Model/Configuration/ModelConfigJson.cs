using System.Text.Json;
using System.Text.Json.Nodes;

namespace Krewe.Model.Configuration;

/// <summary>
/// <see cref="ModelConfig"/> to and from <c>config.json</c>. The file is read into a copy whose aliases and nulls are
/// made uniform; a save writes into the original only what differs from it, so foreign keys and their order survive.
/// </summary>
internal static class ModelConfigJson
{
    private static readonly JsonSerializerOptions _options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        IgnoreReadOnlyProperties = true,
        WriteIndented = true,
    };

    internal static ModelConfig Parse(string json, string where)
    {
        JsonObject source = ParseObject(json, where);
        string modelType = ModelTypeOf(source, where);
        JsonObject uniform = Uniform(source, modelType);
        try
        {
            return uniform.Deserialize<ModelConfig>(_options)! with { SourceJson = source };
        }
        catch (JsonException exception)
        {
            throw WrongType(uniform, exception, where);
        }
    }

    internal static JsonObject KnownKeys(ModelConfig config) =>
        JsonSerializer.SerializeToNode(config, _options)!.AsObject();

    internal static string Write(ModelConfig config)
    {
        JsonObject now = KnownKeys(config);
        if (config.SourceJson is null)
        {
            return now.ToJsonString(_options);
        }

        JsonObject result = config.SourceJson.DeepClone().AsObject();
        JsonObject before = KnownKeys(Parse(result.ToJsonString(), "config.json"));
        foreach (string key in before.Select(pair => pair.Key).Union(now.Select(pair => pair.Key)).ToArray())
        {
            if (!JsonNode.DeepEquals(before[key], now[key]))
            {
                WriteKey(result, key, now[key]?.DeepClone(), now.ContainsKey(key), config);
            }
        }

        return result.ToJsonString(_options);
    }

    private static void WriteKey(JsonObject target, string key, JsonNode? value, bool present, ModelConfig config)
    {
        if (key is "rope_scaling" or "rope_theta" && target["rope_parameters"] is JsonObject parameters)
        {
            WriteRopeParameters(target, parameters, config);
        }
        else if (key == "rope_scaling" && target[key] is JsonObject old && value is JsonObject scaling)
        {
            WriteRopeScaling(old, scaling);
        }
        else if (key == "torch_dtype" && !target.ContainsKey(key) && target.ContainsKey("dtype"))
        {
            target["dtype"] = value;
        }
        else if (present)
        {
            target[key] = value;
        }
        else
        {
            target.Remove(key);
        }
    }

    private static void WriteRopeParameters(JsonObject target, JsonObject parameters, ModelConfig config)
    {
        if (config.RopeScaling is null)
        {
            target["rope_parameters"] = new JsonObject { ["rope_type"] = "default" };
            parameters = target["rope_parameters"]!.AsObject();
        }
        else
        {
            WriteRopeScaling(parameters, KnownKeys(config)["rope_scaling"]!.AsObject());
        }

        parameters["rope_theta"] = config.RopeTheta;
    }

    private static void WriteRopeScaling(JsonObject target, JsonObject scaling)
    {
        foreach ((string key, JsonNode? value) in scaling)
        {
            target[key == "type" && target.ContainsKey("rope_type") ? "rope_type" : key] = value?.DeepClone();
        }
    }

    private static JsonObject ParseObject(string json, string where)
    {
        try
        {
            JsonNode? node = JsonNode.Parse(json, null, new JsonDocumentOptions { AllowDuplicateProperties = false });
            return node as JsonObject ?? throw new KreweException($"{where}: a JSON object is wanted, this is none");
        }
        catch (JsonException exception)
        {
            string message = exception.Message.ReplaceLineEndings(" ");
            throw new KreweException($"{where}: not valid JSON, fetch the file again: {message}", exception);
        }
    }

    private static string ModelTypeOf(JsonObject source, string where)
    {
        string? modelType =
            source["model_type"] is JsonValue value && value.TryGetValue(out string? text) ? text : null;
        return modelType switch
        {
            "deepseek_v3" or "deepseek_v2" => modelType,
            null => throw new KreweException($"{where}: has no model_type; deepseek_v3 or deepseek_v2 is wanted"),
            _ => throw new KreweException(
                $"{where}: model_type '{modelType}' is not supported; Krewe runs deepseek_v3 and deepseek_v2"),
        };
    }

    /// <summary>
    /// A copy with one spelling per key, without nulls, and with what the model family implies filled in.
    /// </summary>
    private static JsonObject Uniform(JsonObject source, string modelType)
    {
        JsonObject copy = source.DeepClone().AsObject();
        bool v2 = modelType == "deepseek_v2";
        if (!copy.ContainsKey("torch_dtype") && copy["dtype"] is { } dtype)
        {
            copy["torch_dtype"] = dtype.DeepClone();
        }

        if (copy["rope_parameters"] is JsonObject parameters)
        {
            JsonObject scaling = parameters.DeepClone().AsObject();
            copy["rope_theta"] = parameters["rope_theta"]?.DeepClone() ?? copy["rope_theta"]?.DeepClone();
            scaling.Remove("rope_theta");
            copy["rope_scaling"] = scaling;
        }

        if (copy["rope_scaling"] is JsonObject rope)
        {
            JsonNode? type = rope["type"] ?? rope["rope_type"];
            copy["rope_scaling"] = IsText(type, "default") ? null : rope;
            rope["type"] = type?.DeepClone() ?? "";
        }

        if (copy["eos_token_id"] is JsonArray { Count: > 0 } ends)
        {
            copy["eos_token_id"] = ends[0]?.DeepClone();
        }

        RemoveNulls(copy);
        copy.TryAdd("scoring_func", v2 ? "softmax" : "sigmoid");
        copy.TryAdd("topk_method", v2 ? "greedy" : "noaux_tc");
        copy.TryAdd("norm_topk_prob", !v2);
        copy.TryAdd("architectures", new JsonArray(v2 ? "DeepseekV2ForCausalLM" : "DeepseekV3ForCausalLM"));
        if (!copy.ContainsKey("num_key_value_heads") && copy["num_attention_heads"] is { } heads)
        {
            copy["num_key_value_heads"] = heads.DeepClone();
        }

        return copy;
    }

    private static bool IsText(JsonNode? node, string text) =>
        node is JsonValue value && value.TryGetValue(out string? found) && found == text;

    private static void RemoveNulls(JsonObject target)
    {
        foreach (string key in target.Where(pair => pair.Value is null).Select(pair => pair.Key).ToArray())
        {
            target.Remove(key);
        }

        foreach ((string _, JsonNode? value) in target)
        {
            if (value is JsonObject inner)
            {
                RemoveNulls(inner);
            }
        }
    }

    private static KreweException WrongType(JsonObject source, JsonException exception, string where)
    {
        string key = exception.Path?.TrimStart('$', '.') ?? "?";
        JsonNode? value = source;
        foreach (string part in key.Split('.'))
        {
            value = value is JsonObject inner ? inner[part] : value;
        }

        string held = value?.ToJsonString() ?? "null";
        string wanted = exception.Message.Split(" Path:")[0].Replace("The JSON value could not be converted to ", "");
        return new($"{where}: key '{key}' holds {held}, which is no {wanted.TrimEnd('.')}", exception);
    }
}
