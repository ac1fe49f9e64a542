namespace Krewe.Model.Precision;

/// <content>Recipes put together from parts of the named ones, to see what each part costs.</content>
public sealed partial record PrecisionRecipe
{
    private const string Hint = "a recipe may take parts of others, such as fp8:experts=bf16,dispatch=bf16";

    private static readonly RecipePart[] s_parts =
    [
        new("linear", (recipe, from) => recipe with { Linear = from.Linear }),
        new("attention", (recipe, from) => recipe with { Attention = from.Attention }),
        new("attention-output", (recipe, from) => recipe with { AttentionOutput = from.AttentionOutput }),
        new("attention-cache", (recipe, from) => recipe with { AttentionCache = from.AttentionCache }),
        new("experts", (recipe, from) => recipe with { Experts = from.Experts }),
        new("swiglu-cache", (recipe, from) => recipe with { SwiGluCache = from.SwiGluCache }),
        new("dispatch", (recipe, from) => recipe with { Dispatch = from.Dispatch }),
        new("combine", (recipe, from) => recipe with { Combine = from.Combine }),
        new("mtp-projection", (recipe, from) => recipe with { MtpProjection = from.MtpProjection }),
        new("head", (recipe, from) => recipe with { Head = from.Head }),
        new("moments", (recipe, from) => recipe with { Moments = from.Moments }),
        new("latent-cache", (recipe, from) => recipe with { LatentCache = from.LatentCache }),
    ];

    /// <summary>Names of the parts that a recipe can take from another one.</summary>
    public static IReadOnlyList<string> Parts { get; } = [.. s_parts.Select(part => part.Name)];

    /// <summary>
    /// The recipe of a name: <c>fp32</c>, <c>bf16</c>, <c>fp8</c>, <c>mxfp8</c>, or one of them with parts of others,
    /// <c>NAME:PART=NAME,PART=NAME</c>. Its own name lists the parts in the order of <see cref="Parts"/>, so that two
    /// spellings of one recipe are equal.
    /// </summary>
    /// <exception cref="KreweException">A name or a part is unknown; the message names those that there are.</exception>
    public static PrecisionRecipe Get(string name)
    {
        int colon = name.IndexOf(':', StringComparison.Ordinal);
        if (colon < 0)
        {
            return Whole(name, name);
        }

        var taken = new SortedDictionary<int, string>();
        foreach (string assignment in name[(colon + 1)..].Split(','))
        {
            string[] sides = assignment.Split('=');
            int part = sides.Length == 2 ? Array.FindIndex(s_parts, part => part.Name == sides[0]) : -1;
            if (part < 0)
            {
                throw new KreweException(
                    $"precision '{name}': '{assignment}' is no PART=NAME with a part of {string.Join(", ", Parts)}");
            }
            if (!taken.TryAdd(part, sides[1]))
            {
                throw new KreweException($"precision '{name}' takes {sides[0]} twice: keep one of them");
            }
        }

        PrecisionRecipe recipe = Whole(name[..colon], name);
        foreach ((int part, string from) in taken)
        {
            recipe = s_parts[part].Take(recipe, Whole(from, name));
        }
        return recipe with
        {
            Name = $"{recipe.Name}:{string.Join(',', taken.Select(pair => $"{s_parts[pair.Key].Name}={pair.Value}"))}",
        };
    }

    private static PrecisionRecipe Whole(string name, string asked) => All.FirstOrDefault(recipe => recipe.Name == name)
        ?? throw new KreweException(
            $"no precision '{name}'{(name == asked ? "" : $" (of '{asked}')")}: choose {string.Join(", ", Names)}; {Hint}");

    /// <param name="Name">Name of the part.</param>
    /// <param name="Take">The first recipe with this part of the second.</param>
    private sealed record RecipePart(string Name, Func<PrecisionRecipe, PrecisionRecipe, PrecisionRecipe> Take);
}
