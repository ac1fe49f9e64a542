using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// JSON in and out of template values; written as Python's json.dumps does, without escaping beyond ASCII.
/// </summary>
internal static class TemplateJson
{
    public static object? ToValue(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.String => element.GetString(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number => element.TryGetInt64(out long integer) ? (object)integer : element.GetDouble(),
        JsonValueKind.Array => element.EnumerateArray().Select(ToValue).ToList(),
        JsonValueKind.Object => new OrderedDictionary<string, object?>(
            element.EnumerateObject().Select(p => KeyValuePair.Create(p.Name, ToValue(p.Value)))),
        _ => null,
    };

    /// <summary>The JSON text of a value; with <paramref name="indent"/> over lines, else with ", " and ": ".</summary>
    public static string ToJson(object? value, int? indent)
    {
        var json = new StringBuilder();
        Write(json, value, indent, 0);
        return json.ToString();
    }

    private static void Write(StringBuilder json, object? value, int? indent, int level)
    {
        switch (value)
        {
            case null:
                json.Append("null");
                break;
            case bool b:
                json.Append(b ? "true" : "false");
                break;
            case long n:
                json.Append(n);
                break;
            case double n:
                json.Append(TemplateValue.ToText(n));
                break;
            case string s:
                WriteString(json, s);
                break;
            case List<object?> list:
                WriteItems(json, '[', ']', list, indent, level, item => Write(json, item, indent, level + 1));
                break;
            case OrderedDictionary<string, object?> map:
                WriteItems(json, '{', '}', map, indent, level, entry =>
                {
                    WriteString(json, entry.Key);
                    json.Append(": ");
                    Write(json, entry.Value, indent, level + 1);
                });
                break;
            default:
                throw new TemplateFault($"{TemplateValue.Describe(value)} cannot be written as JSON");
        }
    }

    private static void WriteItems<T>(
        StringBuilder json, char open, char close, ICollection<T> items, int? indent, int level, Action<T> write)
    {
        json.Append(open);
        bool first = true;
        foreach (T item in items)
        {
            json.Append(first ? "" : indent is null ? ", " : ",");
            NewLine(level + 1);
            write(item);
            first = false;
        }

        if (!first)
        {
            NewLine(level);
        }

        json.Append(close);

        void NewLine(int depth)
        {
            if (indent is { } width)
            {
                json.Append('\n').Append(' ', depth * width);
            }
        }
    }

    private static void WriteString(StringBuilder json, string text)
    {
        json.Append('"');
        foreach (char c in text)
        {
            _ = c switch
            {
                '"' => json.Append("\\\""),
                '\\' => json.Append("\\\\"),
                '\n' => json.Append("\\n"),
                '\r' => json.Append("\\r"),
                '\t' => json.Append("\\t"),
                '\b' => json.Append("\\b"),
                '\f' => json.Append("\\f"),
                < ' ' => json.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => json.Append(c),
            };
        }

        json.Append('"');
    }
}
