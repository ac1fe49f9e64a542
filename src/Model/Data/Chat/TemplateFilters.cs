using System.Globalization;

namespace Krewe.Model.Data.Chat;

/// <summary>The filters (<c>value | name(arguments)</c>); the value is the first argument.</summary>
internal static class TemplateFilters
{
    private static readonly Dictionary<string, TemplateFunction> _filters = new(StringComparer.Ordinal)
    {
        ["abs"] = a => TemplateValue.TryGetNumber(a.Positional[0], out double n)
            ? a.Positional[0] is long ? (object)(long)Math.Abs(n) : Math.Abs(n)
            : throw new TemplateFault("abs needs a number"),
        ["capitalize"] = TextMethod("capitalize"),
        ["count"] = a => TemplateValue.Length(a.Positional[0]),
        ["d"] = Default,
        ["default"] = Default,
        ["dictsort"] = a => Items(a.Positional[0], "dictsort")
            .OrderBy(entry => entry.Key, StringComparer.OrdinalIgnoreCase).Select(Pair).ToList(),
        ["first"] = a => TemplateValue.Iterate(a.Positional[0]).FirstOrDefault(new TemplateUndefined("first")),
        ["float"] = a => double.TryParse(
            TemplateValue.ToText(a.Positional[0]), CultureInfo.InvariantCulture, out double n) ? n : 0d,
        ["int"] = a => TemplateValue.TryGetNumber(a.Positional[0], out double n) ? (object)(long)n
            : long.TryParse(a.Positional[0] as string, out long i) ? i : a.Get(1, "default", 0L),
        ["items"] = a => Items(a.Positional[0], "items").Select(Pair).ToList(),
        ["join"] = a => string.Join(
            TemplateValue.ToText(a.Get(1, "d", "")), Attribute(a, 2).Select(TemplateValue.ToText)),
        ["last"] = a => TemplateValue.Iterate(a.Positional[0]).LastOrDefault(new TemplateUndefined("last")),
        ["length"] = a => TemplateValue.Length(a.Positional[0]),
        ["list"] = a => TemplateValue.Iterate(a.Positional[0]).ToList(),
        ["lower"] = TextMethod("lower"),
        ["map"] = Map,
        ["reject"] = a => Select(a, attribute: false, keep: false),
        ["rejectattr"] = a => Select(a, attribute: true, keep: false),
        ["replace"] = TextMethod("replace"),
        ["reverse"] = a => a.Positional[0] is string text
            ? string.Concat(TemplateValue.Iterate(text).Reverse())
            : TemplateValue.Iterate(a.Positional[0]).Reverse().ToList(),
        ["safe"] = a => a.Positional[0],
        ["select"] = a => Select(a, attribute: false, keep: true),
        ["selectattr"] = a => Select(a, attribute: true, keep: true),
        ["sort"] = a => TemplateValue.Iterate(a.Positional[0]).Order(
            Comparer<object?>.Create(TemplateValue.Compare)).ToList(),
        ["string"] = a => TemplateValue.ToText(a.Positional[0]),
        ["title"] = TextMethod("title"),
        ["tojson"] = a => TemplateJson.ToJson(a.Positional[0], (int?)(a.Get(1, "indent") as long?)),
        ["trim"] = TextMethod("strip"),
        ["unique"] = a => TemplateValue.Iterate(a.Positional[0]).Distinct().ToList(),
        ["upper"] = TextMethod("upper"),
    };

    public static TemplateFunction? TryGet(string name) => _filters.GetValueOrDefault(name);

    private static object? Default(TemplateArguments a) =>
        a.Positional[0] is TemplateUndefined
            || (TemplateValue.IsTrue(a.Get(2, "boolean")) && !TemplateValue.IsTrue(a.Positional[0]))
            ? a.Get(1, "default_value", "")
            : a.Positional[0];

    // Filters of text turn what they get into a string first, as Jinja does.
    private static TemplateFunction TextMethod(string method) => a =>
        TemplateMethods.TryGet(TemplateValue.ToText(a.Positional[0]), method)!(new(a.Positional[1..], a.Named));

    private static OrderedDictionary<string, object?> Items(object? value, string filter) =>
        value as OrderedDictionary<string, object?>
            ?? throw new TemplateFault($"{filter} needs a mapping, not {TemplateValue.Describe(value)}");

    private static object? Pair(KeyValuePair<string, object?> entry) => new TemplateTuple { entry.Key, entry.Value };

    private static IEnumerable<object?> Attribute(TemplateArguments a, int index) =>
        a.Get(index, "attribute") is { } attribute
            ? TemplateValue.Iterate(a.Positional[0]).Select(item => AttributeOf(item, attribute))
            : TemplateValue.Iterate(a.Positional[0]);

    private static object? AttributeOf(object? item, object attribute) =>
        item is OrderedDictionary<string, object?> map
            && map.TryGetValue(TemplateValue.ToText(attribute), out object? value)
            ? value
            : new TemplateUndefined(TemplateValue.ToText(attribute));

    private static List<object?> Map(TemplateArguments a)
    {
        if (a.Named.ContainsKey("attribute"))
        {
            return Attribute(a, int.MaxValue).ToList();
        }

        string name = a.Text(1, "filter");
        TemplateFunction filter = TryGet(name) ?? throw new TemplateFault($"no filter '{name}'");
        return TemplateValue.Iterate(a.Positional[0]).Select(
            item => filter(new([item, .. a.Positional[2..]], a.Named))).ToList();
    }

    private static List<object?> Select(TemplateArguments a, bool attribute, bool keep)
    {
        int testAt = attribute ? 2 : 1;
        TemplateFunction? test = null;
        if (a.Positional.Count > testAt)
        {
            string name = a.Text(testAt, "test");
            test = TemplateTests.TryGet(name) ?? throw new TemplateFault($"no test '{name}'");
        }

        List<object?> rest = [.. a.Positional.Skip(testAt + 1)];
        return TemplateValue.Iterate(a.Positional[0]).Where(item =>
        {
            object? value = attribute ? AttributeOf(item, a.Text(1, "attribute")) : item;
            return TemplateValue.IsTrue(test is null ? value : test(new([value, .. rest], a.Named))) == keep;
        }).ToList();
    }
}
