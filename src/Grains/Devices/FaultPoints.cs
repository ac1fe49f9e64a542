using System.Diagnostics;
using System.Globalization;
using Krewe.Model;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// Kills its own process at a named moment of a step, or loses the silo's device, for tests of moments too short to hit
/// from outside. Set by the environment variable <see cref="Variable"/>, such as <c>apply@21</c> or
/// <c>lose:apply@21</c>; nothing happens without it.
/// </summary>
public sealed class FaultPoints
{
    /// <summary>Name of the environment variable.</summary>
    public const string Variable = "KREWE_FAULT";

    /// <summary>The silo was told to apply a committed step and has not begun.</summary>
    public const string Apply = "apply";

    /// <summary>The silo is asked for its part of a checkpoint.</summary>
    public const string Checkpoint = "checkpoint";

    /// <summary>The silo keeps a peer's state of a snapshot that is not complete yet.</summary>
    public const string Snapshot = "snapshot";

    /// <summary>The run grain's silo has committed a step and nobody has applied it.</summary>
    public const string Commit = "commit";

    /// <summary>The silo's experts are asked for the forward of a layer.</summary>
    public const string Forward = "forward";

    private const string LosePrefix = "lose:";

    private readonly string? _point;
    private readonly long _step;
    private readonly bool _loses;
    private readonly DeviceLoss? _loss;

    private FaultPoints(string? point, long step, bool loses, DeviceLoss? loss = null) =>
        (_point, _step, _loses, _loss) = (point, step, loses, loss);

    /// <summary>Reads <c>point@step</c>, or <c>lose:point@step</c>; null for no fault.</summary>
    /// <exception cref="KreweException">It is written in another way.</exception>
    public static FaultPoints Parse(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return new(null, 0, loses: false);
        }

        bool loses = text.StartsWith(LosePrefix, StringComparison.Ordinal);
        string[] parts = (loses ? text[LosePrefix.Length..] : text).Split('@');
        bool known = parts[0] is Apply or Checkpoint or Snapshot or Commit or Forward;
        return parts.Length == 2 && known && long.TryParse(parts[1], CultureInfo.InvariantCulture, out long step)
            ? new(parts[0], step, loses)
            : throw new KreweException($"{Variable}={text} names no fault: write {Apply}@21, or unset it");
    }

    /// <summary>The same moments for a silo, whose device it is that may be lost.</summary>
    public FaultPoints On(IDevice device) => new(_point, _step, _loses, device.Loss);

    /// <summary>A moment has come: dies, or loses the device, if it is the one.</summary>
    public void Reached(string point, long step)
    {
        if (_point == point && _step == step && _loses)
        {
            _loss?.Report(Variable, $"{LosePrefix}{point}@{step} in {Variable} wanted it");
        }
        else if (_point == point && _step == step)
        {
            using Process own = Process.GetCurrentProcess();
            own.Kill();
            // The signal is on its way; nothing further may happen here. This thread is the dying process's.
            own.WaitForExit();
        }
    }
}
