using System.Diagnostics;
using System.Globalization;
using Krewe.Model;

namespace Krewe.Grains.Devices;

/// <summary>
/// Kills its own process at a named moment of a step, or loses the device there, for tests of moments too short to hit
/// from outside. Set by the environment variable <see cref="Variable"/>, such as <c>apply@21</c>,
/// <c>lose:apply@21</c>, or <c>lose:1:apply@21</c> for the silo's second device alone; nothing happens without it.
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
    private readonly int? _place;

    private FaultPoints(string? point, long step, bool loses, int? place = null) =>
        (_point, _step, _loses, _place) = (point, step, loses, place);

    /// <summary>
    /// Reads <c>point@step</c>, <c>lose:point@step</c> or <c>lose:place:point@step</c>; null for no fault.
    /// </summary>
    /// <exception cref="KreweException">It is written in another way.</exception>
    public static FaultPoints Parse(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return new(null, 0, loses: false);
        }

        bool loses = text.StartsWith(LosePrefix, StringComparison.Ordinal);
        string rest = loses ? text[LosePrefix.Length..] : text;
        int colon = loses ? rest.IndexOf(':', StringComparison.Ordinal) : -1;
        int place = 0;
        bool placed = colon < 0
            || int.TryParse(rest[..colon], NumberStyles.None, CultureInfo.InvariantCulture, out place);
        string[] parts = rest[(colon + 1)..].Split('@');
        bool known = placed && parts[0] is Apply or Checkpoint or Snapshot or Commit or Forward;
        return parts.Length == 2 && known && long.TryParse(parts[1], CultureInfo.InvariantCulture, out long step)
            ? new(parts[0], step, loses, colon < 0 ? null : place)
            : throw new KreweException($"{Variable}={text} names no fault: write {Apply}@21, or unset it");
    }

    /// <summary>A moment has come at a place: dies, or loses the place's device, if it is the one.</summary>
    public void Reached(string point, long step, DeviceHost host)
    {
        if (_point != point || _step != step)
        {
            return;
        }

        if (!_loses)
        {
            using Process own = Process.GetCurrentProcess();
            own.Kill();
            // The signal is on its way; nothing further may happen here. This thread is the dying process's.
            own.WaitForExit();
        }
        else if (_place is not { } place || place == PlaceName.NumberOf(host.Place))
        {
            host.Device.Loss.Report(Variable, $"{LosePrefix}{point}@{step} in {Variable} wanted it");
        }
    }
}
