namespace Krewe.Model.Training;

/// <summary>
/// The report's schedule (4.2), by fractions of the run: linear warm-up, constant, cosine decay to a tenth, a short
/// constant tail and a shorter one at a thirtieth.
/// </summary>
/// <param name="Peak">Highest rate.</param>
/// <param name="WarmupSteps">Steps of the linear rise; the first one has peak / warm-up.</param>
/// <param name="TotalSteps">Length of the run.</param>
public sealed record LearningRateSchedule(double Peak, long WarmupSteps, long TotalSteps)
{
    private const double ConstantUntil = 10.0 / 14.8;
    private const double DecayUntil = 14.3 / 14.8;
    private const double TailUntil = 14.633 / 14.8;
    private const double DecayedFactor = 0.1;
    private const double LastFactor = 7.3e-6 / 2.2e-4;

    /// <summary>Rate of a step, counted from 0.</summary>
    public double At(long step)
    {
        if (step < WarmupSteps)
        {
            return Peak * (step + 1) / WarmupSteps;
        }

        double progress = TotalSteps <= 0 ? 0 : (double)step / TotalSteps;
        if (progress < ConstantUntil)
        {
            return Peak;
        }

        if (progress < DecayUntil)
        {
            double phase = (progress - ConstantUntil) / (DecayUntil - ConstantUntil);
            return Peak * (DecayedFactor + ((1 - DecayedFactor) * 0.5 * (1 + Math.Cos(Math.PI * phase))));
        }

        return Peak * (progress < TailUntil ? DecayedFactor : LastFactor);
    }
}
