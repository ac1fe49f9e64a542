using System.Globalization;

namespace Krewe.Model.Data.Chat;

/// <summary>The functions that Hugging Face's templates find without being given them.</summary>
internal static class TemplateFunctions
{
    private const int LongestRange = 100_000;

    public static IReadOnlyDictionary<string, object?> Globals { get; } = new Dictionary<string, object?>
    {
        ["namespace"] = (TemplateFunction)(a => Fill(new TemplateNamespace(), a)),
        ["dict"] = (TemplateFunction)(a => Fill([], a)),
        ["range"] = (TemplateFunction)Range,
        ["raise_exception"] = (TemplateFunction)(
            a => throw new TemplateFault(TemplateValue.ToText(a.Get(0, "message")))),
        ["strftime_now"] = (TemplateFunction)(a => FormatTime(DateTime.Now, a.Text(0, "format"))),
    };

    private static OrderedDictionary<string, object?> Fill(OrderedDictionary<string, object?> map, TemplateArguments a)
    {
        if (a.Positional.Count > 0 && a.Positional[0] is OrderedDictionary<string, object?> source)
        {
            foreach ((string name, object? value) in source)
            {
                map[name] = value;
            }
        }

        foreach ((string name, object? value) in a.Named)
        {
            map[name] = value;
        }

        return map;
    }

    private static List<object?> Range(TemplateArguments a)
    {
        long[] bounds = [.. a.Positional.Select(
            bound => bound is long n ? n : throw new TemplateFault("range needs integers"))];
        (long start, long stop, long step) = bounds switch
        {
            [var only] => (0, only, 1),
            [var first, var last] => (first, last, 1),
            [var first, var last, var by] when by != 0 => (first, last, by),
            _ => throw new TemplateFault("range needs one to three integers, the third not 0"),
        };
        var values = new List<object?>();
        for (long i = start; step > 0 ? i < stop : i > stop; i += step)
        {
            values.Add(values.Count < LongestRange ? i : throw new TemplateFault($"range longer than {LongestRange}"));
        }

        return values;
    }

    private static string FormatTime(DateTime time, string format)
    {
        var text = new System.Text.StringBuilder();
        for (int i = 0; i < format.Length; i++)
        {
            text.Append(format[i] != '%' || i + 1 == format.Length ? format[i].ToString() : format[++i] switch
            {
                'Y' => time.ToString("yyyy", CultureInfo.InvariantCulture),
                'm' => time.ToString("MM", CultureInfo.InvariantCulture),
                'd' => time.ToString("dd", CultureInfo.InvariantCulture),
                'H' => time.ToString("HH", CultureInfo.InvariantCulture),
                'M' => time.ToString("mm", CultureInfo.InvariantCulture),
                'S' => time.ToString("ss", CultureInfo.InvariantCulture),
                'b' => time.ToString("MMM", CultureInfo.InvariantCulture),
                'B' => time.ToString("MMMM", CultureInfo.InvariantCulture),
                'a' => time.ToString("ddd", CultureInfo.InvariantCulture),
                'A' => time.ToString("dddd", CultureInfo.InvariantCulture),
                '%' => "%",
                var other => throw new TemplateFault($"strftime_now does not know '%{other}'"),
            });
        }

        return text.ToString();
    }
}
