using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Krewe.Model;

namespace Krewe.Silo.Commands;

/// <summary>JSON on standard input and output.</summary>
internal static class Json
{
    private static readonly JsonSerializerOptions _options = new()
    {
        // Text for programs, not for web pages: only what JSON itself needs is escaped.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>One line.</summary>
    public static void Write(TextWriter output, JsonNode node) => output.WriteLine(node.ToJsonString(_options));

    /// <summary>A number, or null where it is not finite, which JSON cannot say.</summary>
    public static JsonNode? Number(double value) => double.IsFinite(value) ? JsonValue.Create(value) : null;

    /// <summary>Reads <paramref name="text"/> as <typeparamref name="T"/>.</summary>
    /// <param name="text">JSON.</param>
    /// <param name="where">Where it came from, for the message.</param>
    /// <param name="wanted">What it should be, for the message.</param>
    public static T Read<T>(string text, string where, string wanted) where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(text) ?? throw new KreweException($"{where}: {wanted} is wanted, not null");
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            throw new KreweException($"{where}: {wanted} is wanted: {exception.Message}", exception);
        }
    }
}
