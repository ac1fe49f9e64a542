namespace Krewe.Model.Data.Chat;

/// <summary>Python's methods of strings and mappings that chat templates call.</summary>
internal static class TemplateMethods
{
    /// <summary>The method of a value, bound to it; null if it has none of that name.</summary>
    public static TemplateFunction? TryGet(object? target, string name) => target switch
    {
        string text => OfText(text, name),
        TemplateNamespace => null,
        OrderedDictionary<string, object?> map => OfMapping(map, name),
        _ => null,
    };

    private static TemplateFunction? OfText(string text, string name) => name switch
    {
        "strip" => a => Strip(text, a, start: true, end: true),
        "lstrip" => a => Strip(text, a, start: true, end: false),
        "rstrip" => a => Strip(text, a, start: false, end: true),
        "startswith" => a => Any(a, prefix => text.StartsWith(prefix, StringComparison.Ordinal)),
        "endswith" => a => Any(a, suffix => text.EndsWith(suffix, StringComparison.Ordinal)),
        "split" => a => Split(text, a),
        "splitlines" => _ => text.ReplaceLineEndings("\n").Split('\n').Cast<object?>().ToList(),
        "replace" => a => Replace(text, a),
        "upper" => _ => text.ToUpperInvariant(),
        "lower" => _ => text.ToLowerInvariant(),
        "capitalize" => _ => text.Length == 0 ? "" : char.ToUpperInvariant(text[0]) + text[1..].ToLowerInvariant(),
        "title" => _ => System.Globalization.CultureInfo.InvariantCulture.TextInfo.ToTitleCase(text.ToLowerInvariant()),
        "find" => a => (long)text.IndexOf(a.Text(0, "sub"), StringComparison.Ordinal),
        "count" => a => (long)(text.Split(a.Text(0, "sub")).Length - 1),
        "join" => a => string.Join(text, TemplateValue.Iterate(a.Get(0, "iterable")).Select(TemplateValue.ToText)),
        _ => null,
    };

    private static TemplateFunction? OfMapping(OrderedDictionary<string, object?> map, string name) => name switch
    {
        "get" => a => map.TryGetValue(TemplateValue.ToText(a.Get(0, "key")), out object? value)
            ? value
            : a.Get(1, "default"),
        "items" => _ => map.Select(object? (entry) => new TemplateTuple { entry.Key, entry.Value }).ToList(),
        "keys" => _ => map.Keys.Cast<object?>().ToList(),
        "values" => _ => map.Values.ToList(),
        _ => null,
    };

    private static string Strip(string text, TemplateArguments a, bool start, bool end)
    {
        char[]? characters = (a.Get(0, "chars") as string)?.ToCharArray();
        text = start ? text.TrimStart(characters) : text;
        return end ? text.TrimEnd(characters) : text;
    }

    // Python takes one string or a tuple of them.
    private static bool Any(TemplateArguments a, Func<string, bool> matches) =>
        a.Get(0, "prefix") is List<object?> several
            ? several.OfType<string>().Any(matches)
            : matches(a.Text(0, "prefix"));

    private static List<object?> Split(string text, TemplateArguments a)
    {
        int limit = a.Get(1, "maxsplit") is long and >= 0 and var given
            ? (int)Math.Min(given, int.MaxValue - 1) + 1
            : int.MaxValue;
        return a.Get(0, "sep") switch
        {
            null => [.. text.Split((char[]?)null, limit, StringSplitOptions.RemoveEmptyEntries).Select(
                part => part.TrimStart())],
            string { Length: > 0 } separator => [.. text.Split(separator, limit)],
            _ => throw new TemplateFault("the separator of split must be a string that is not empty"),
        };
    }

    private static string Replace(string text, TemplateArguments a)
    {
        string old = a.Text(0, "old");
        return old.Length > 0
            ? text.Replace(old, a.Text(1, "new"), StringComparison.Ordinal)
            : throw new TemplateFault("replace needs a string that is not empty");
    }
}
