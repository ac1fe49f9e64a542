namespace Krewe.Model.Data.Chat;

/// <summary>The tests (<c>value is name</c>); the value is the first argument.</summary>
internal static class TemplateTests
{
    private static readonly Dictionary<string, TemplateFunction> _tests = new(StringComparer.Ordinal)
    {
        ["boolean"] = a => a.Positional[0] is bool,
        ["callable"] = a => a.Positional[0] is TemplateFunction,
        ["defined"] = a => a.Positional[0] is not TemplateUndefined,
        ["divisibleby"] = a => TemplateValue.Equals(TemplateOperators.Apply("%", a.Positional[0], a.Get(1, "num")), 0L),
        ["eq"] = a => TemplateValue.Equals(a.Positional[0], a.Get(1, "other")),
        ["equalto"] = a => TemplateValue.Equals(a.Positional[0], a.Get(1, "other")),
        ["even"] = a => a.Positional[0] is long n && n % 2 == 0,
        ["false"] = a => a.Positional[0] is false,
        ["float"] = a => a.Positional[0] is double,
        ["in"] = a => TemplateValue.Contains(a.Get(1, "seq"), a.Positional[0]),
        ["integer"] = a => a.Positional[0] is long,
        ["iterable"] = a => a.Positional[0] is string or List<object?> or OrderedDictionary<string, object?>,
        ["mapping"] = a => a.Positional[0] is OrderedDictionary<string, object?>,
        ["ne"] = a => !TemplateValue.Equals(a.Positional[0], a.Get(1, "other")),
        ["none"] = a => a.Positional[0] is null,
        ["number"] = a => a.Positional[0] is long or double or bool,
        ["odd"] = a => a.Positional[0] is long n && n % 2 != 0,
        ["sameas"] = a => TemplateValue.Equals(a.Positional[0], a.Get(1, "other")),
        ["sequence"] = a => a.Positional[0] is string or List<object?> or OrderedDictionary<string, object?>,
        ["string"] = a => a.Positional[0] is string,
        ["true"] = a => a.Positional[0] is true,
        ["undefined"] = a => a.Positional[0] is TemplateUndefined,
    };

    public static TemplateFunction? TryGet(string name) => _tests.GetValueOrDefault(name);
}
