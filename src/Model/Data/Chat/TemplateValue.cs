using System.Collections;
using System.Globalization;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// What a name without a value evaluates to: prints as nothing, is false, and cannot be computed with.
/// </summary>
/// <param name="Name">The name, for messages.</param>
internal sealed record TemplateUndefined(string Name);

/// <summary>Jinja's <c>namespace()</c>: the one value that inner scopes may change.</summary>
internal sealed class TemplateNamespace : OrderedDictionary<string, object?>;

/// <summary>A tuple, which differs from a list only in how it prints.</summary>
internal sealed class TemplateTuple : List<object?>;

/// <summary>Positional and named arguments of a call.</summary>
internal sealed record TemplateArguments(List<object?> Positional, Dictionary<string, object?> Named)
{
    /// <summary>The argument at a place or of a name; <paramref name="fallback"/> if not given.</summary>
    public object? Get(int index, string name, object? fallback = null) =>
        index < Positional.Count ? Positional[index] : Named.GetValueOrDefault(name, fallback);

    /// <summary>An argument that must be a string.</summary>
    public string Text(int index, string name) => Get(index, name) as string
        ?? throw new TemplateFault($"argument '{name}' must be a string");
}

/// <summary>A function or macro.</summary>
internal delegate object? TemplateFunction(TemplateArguments arguments);

/// <summary>
/// Python's rules for the values of a template: null is None; bool, long, double, string; List of object is a list or
/// tuple, OrderedDictionary a dict.
/// </summary>
internal static class TemplateValue
{
    public static bool IsTrue(object? value) => value switch
    {
        null or TemplateUndefined => false,
        bool b => b,
        long n => n != 0,
        double n => n != 0,
        string s => s.Length > 0,
        ICollection c => c.Count > 0,
        _ => true,
    };

    /// <summary>Python's str().</summary>
    public static string ToText(object? value) => value switch
    {
        string s => s,
        TemplateUndefined => "",
        _ => ToRepresentation(value),
    };

    public static IEnumerable<object?> Iterate(object? value) => value switch
    {
        TemplateUndefined => [],
        string s => s.EnumerateRunes().Select(object? (rune) => rune.ToString()),
        List<object?> list => list,
        OrderedDictionary<string, object?> map => map.Keys,
        _ => throw new TemplateFault($"cannot loop over {Describe(value)}"),
    };

    public static object Length(object? value) => value switch
    {
        string s => (long)s.EnumerateRunes().Count(),
        TemplateUndefined => 0L,
        ICollection c => (long)c.Count,
        _ => throw new TemplateFault($"{Describe(value)} has no length"),
    };

    public static new bool Equals(object? left, object? right) => (left, right) switch
    {
        (TemplateUndefined, TemplateUndefined) => true,
        (List<object?> a, List<object?> b) =>
            a.Count == b.Count && a.Zip(b).All(pair => Equals(pair.First, pair.Second)),
        (OrderedDictionary<string, object?> a, OrderedDictionary<string, object?> b) =>
            a.Count == b.Count && a.All(
                entry => b.TryGetValue(entry.Key, out object? other) && Equals(entry.Value, other)),
        _ when TryGetNumber(left, out double a) && TryGetNumber(right, out double b) => a == b,
        _ => object.Equals(left, right),
    };

    public static int Compare(object? left, object? right)
    {
        if (TryGetNumber(left, out double a) && TryGetNumber(right, out double b))
        {
            return a.CompareTo(b);
        }

        return left is string x && right is string y
            ? string.CompareOrdinal(x, y)
            : throw new TemplateFault($"cannot compare {Describe(left)} with {Describe(right)}");
    }

    public static bool Contains(object? container, object? item) => container switch
    {
        string text => item is string part
            ? text.Contains(part, StringComparison.Ordinal)
            : throw new TemplateFault($"'in' of a string needs a string, not {Describe(item)}"),
        OrderedDictionary<string, object?> map => item is string key && map.ContainsKey(key),
        _ => Iterate(container).Any(element => Equals(element, item)),
    };

    public static bool TryGetNumber(object? value, out double number)
    {
        (bool isNumber, number) = value switch
        {
            long n => (true, n),
            double n => (true, n),
            bool b => (true, b ? 1 : 0),
            _ => (false, 0d),
        };
        return isNumber;
    }

    /// <summary>A value as messages name it.</summary>
    public static string Describe(object? value) => value switch
    {
        null => "none",
        TemplateUndefined undefined => $"'{undefined.Name}', which is undefined",
        bool => "a boolean",
        long or double => "a number",
        string => "a string",
        List<object?> => "a list",
        OrderedDictionary<string, object?> => "a mapping",
        _ => "a function",
    };

    private static string ToRepresentation(object? value)
    {
        switch (value)
        {
            case null:
                return "None";
            case bool b:
                return b ? "True" : "False";
            case double d:
                string number = d.ToString("R", CultureInfo.InvariantCulture);
                return number.All(c => char.IsAsciiDigit(c) || c == '-') ? number + ".0" : number;
            case string s:
                string quoted = s.Replace("\\", "\\\\", StringComparison.Ordinal)
                    .Replace("\n", "\\n", StringComparison.Ordinal)
                    .Replace("\r", "\\r", StringComparison.Ordinal)
                    .Replace("\t", "\\t", StringComparison.Ordinal);
                return s.Contains('\'', StringComparison.Ordinal) && !s.Contains('"', StringComparison.Ordinal)
                    ? $"\"{quoted}\""
                    : $"'{quoted.Replace("'", "\\'", StringComparison.Ordinal)}'";
            case TemplateTuple tuple:
                return $"({string.Join(", ", tuple.Select(ToRepresentation))}{(tuple.Count == 1 ? "," : "")})";
            case List<object?> list:
                return $"[{string.Join(", ", list.Select(ToRepresentation))}]";
            case OrderedDictionary<string, object?> map:
                IEnumerable<string> entries = map.Select(e => $"{ToRepresentation(e.Key)}: {ToRepresentation(e.Value)}");
                return $"{{{string.Join(", ", entries)}}}";
            default:
                return Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
        }
    }
}
