namespace Krewe.Model.Data.Chat;

/// <summary>The binary operators, with Python's rules for the types they take.</summary>
internal static class TemplateOperators
{
    public static object Apply(string sign, object? left, object? right)
    {
        switch (sign, left, right)
        {
            case ("~", _, _):
                return TemplateValue.ToText(left) + TemplateValue.ToText(right);
            case ("+", string a, string b):
                return a + b;
            case ("+", List<object?> a, List<object?> b):
                return new List<object?>([.. a, .. b]);
            case ("*", string text, long count):
                return Repeat(text, count);
            default:
                break;
        }

        if (!TemplateValue.TryGetNumber(left, out double x) || !TemplateValue.TryGetNumber(right, out double y))
        {
            throw new TemplateFault(
                $"'{sign}' does not take {TemplateValue.Describe(left)} and {TemplateValue.Describe(right)}");
        }

        bool integers = left is long or bool && right is long or bool;
        if (y == 0 && sign is ("/" or "//" or "%"))
        {
            throw new TemplateFault("division by zero");
        }

        double result = sign switch
        {
            "+" => x + y,
            "-" => x - y,
            "*" => x * y,
            "/" => x / y,
            "//" => Math.Floor(x / y),
            "%" => x - (y * Math.Floor(x / y)),
            _ => Math.Pow(x, y),
        };
        if (integers && sign != "/" && Math.Abs(result) < 1L << 53)
        {
            return (long)result;
        }

        return result;
    }

    public static bool Compare(string sign, object? left, object? right) => sign switch
    {
        "==" => TemplateValue.Equals(left, right),
        "!=" => !TemplateValue.Equals(left, right),
        "<" => TemplateValue.Compare(left, right) < 0,
        ">" => TemplateValue.Compare(left, right) > 0,
        "<=" => TemplateValue.Compare(left, right) <= 0,
        ">=" => TemplateValue.Compare(left, right) >= 0,
        "in" => TemplateValue.Contains(right, left),
        _ => !TemplateValue.Contains(right, left),
    };

    private static string Repeat(string text, long count)
    {
        const int Limit = 1 << 20; // A template comes from strangers: it may not fill the memory.
        return count <= Limit / Math.Max(1, text.Length)
            ? string.Concat(Enumerable.Repeat(text, (int)Math.Max(0, count)))
            : throw new TemplateFault("repeated string too long");
    }
}
