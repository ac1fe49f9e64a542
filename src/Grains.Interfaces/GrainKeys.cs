using System.Globalization;

namespace Krewe.Grains.Interfaces;

/// <summary>How grain keys are written and read.</summary>
public static class GrainKeys
{
    /// <summary>Key of an expert: <c>model/layer/expert/replica</c>.</summary>
    public static string Expert(string model, int layer, int expert, int replica = 0) =>
        string.Create(CultureInfo.InvariantCulture, $"{model}/{layer}/{expert}/{replica}");

    /// <summary>Key of a stage: <c>model/direction/stage</c>.</summary>
    public static string Stage(string model, int stage, int direction = 0) =>
        string.Create(CultureInfo.InvariantCulture, $"{model}/{direction}/{stage}");

    /// <summary>Key of a gateway: <c>model@place</c>, the place named as in <see cref="Devices.PlaceName"/>.</summary>
    public static string Host(string model, string place) => $"{model}@{place}";

    /// <summary>Key of a router: <c>run/layer</c>.</summary>
    public static string Router(string run, int layer) => string.Create(CultureInfo.InvariantCulture, $"{run}/{layer}");

    /// <summary>Reads an expert's key.</summary>
    public static (string Model, int Layer, int Expert) ParseExpert(string key)
    {
        string[] parts = Split(key, 4);
        return (parts[0], Number(parts[1], key), Number(parts[2], key));
    }

    /// <summary>Reads a stage's key.</summary>
    public static (string Model, int Direction, int Stage) ParseStage(string key)
    {
        string[] parts = Split(key, 3);
        return (parts[0], Number(parts[1], key), Number(parts[2], key));
    }

    /// <summary>Reads a gateway's key.</summary>
    public static (string Model, string Place) ParseHost(string key)
    {
        int at = key.LastIndexOf('@');
        return at > 0
            ? (key[..at], key[(at + 1)..])
            : throw new ArgumentException($"'{key}' is not a key like model@place");
    }

    /// <summary>Names that may be a model or run: keys are cut at '/' and '@'.</summary>
    public static bool IsName(string name) => name.Length > 0 && name.IndexOfAny(['/', '@', '\\']) < 0;

    private static string[] Split(string key, int count)
    {
        string[] parts = key.Split('/');
        return parts.Length == count ? parts : throw new ArgumentException($"'{key}' is not a key of {count} parts");
    }

    private static int Number(string text, string key) =>
        int.TryParse(text, CultureInfo.InvariantCulture, out int number)
            ? number
            : throw new ArgumentException($"'{text}' in the key '{key}' is not a number");
}
