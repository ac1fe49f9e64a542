namespace Krewe.Model.Evaluation;

/// <summary>Limits of a check.</summary>
/// <param name="Logits">Largest absolute difference of a logit or a hidden state.</param>
/// <param name="Loss">Largest absolute difference of a loss.</param>
/// <param name="Gradient">Largest norm of a gradient's difference over the gradient's norm.</param>
public sealed record CheckTolerances(double Logits = 2e-4, double Loss = 1e-4, double Gradient = 1e-3);

/// <summary>One compared tensor.</summary>
/// <param name="Name">Name in the reference file.</param>
/// <param name="Measure">What <paramref name="Difference"/> is: max abs, relative norm, or wrong choices.</param>
/// <param name="Difference">The measured difference.</param>
/// <param name="Limit">Largest allowed.</param>
public sealed record CheckRow(string Name, string Measure, double Difference, double Limit)
{
    /// <summary>True where the difference is within the limit; NaN never is.</summary>
    public bool Passed => Difference <= Limit;
}

/// <summary>Outcome of a check, tensor by tensor.</summary>
/// <param name="Rows">Every comparison in file order.</param>
public sealed record CheckReport(IReadOnlyList<CheckRow> Rows)
{
    /// <summary>True where something was compared and every row passed.</summary>
    public bool Passed => Rows.Count > 0 && Rows.All(row => row.Passed);

    /// <summary>Largest absolute difference of main and MTP logits.</summary>
    public double LogitsMaxAbs => Largest(row => row.Name.Contains("logits", StringComparison.Ordinal)
        && !row.Name.StartsWith("router", StringComparison.Ordinal)) ?? double.NaN;

    /// <summary>Tokens that chose other experts than the reference in some layer of the main model.</summary>
    public int OtherChoices { get; init; }

    /// <summary>
    /// Largest absolute difference of the main logits of all other tokens; null where every token chose the same experts.
    /// </summary>
    public double? LogitsMaxAbsSameChoices { get; init; }

    /// <summary>True where every token chose the same experts as in the reference.</summary>
    public bool ExpertChoicesEqual => (Largest(row => row.Measure == ReferenceCheck.Choices) ?? 0) == 0;

    /// <summary>Largest absolute difference of a loss.</summary>
    public double LossMaxAbs => Largest(row => row.Name.Contains("loss", StringComparison.Ordinal)) ?? 0;

    /// <summary>Largest relative difference of a gradient, or null where none was compared.</summary>
    public double? GradientsMaxRelative =>
        Largest(row => row.Name.StartsWith("grad", StringComparison.Ordinal));

    private double? Largest(Func<CheckRow, bool> chosen)
    {
        CheckRow[] rows = [.. Rows.Where(chosen)];
        return rows.Length == 0 ? null : rows.Any(row => double.IsNaN(row.Difference))
            ? double.NaN
            : rows.Max(row => row.Difference);
    }
}
