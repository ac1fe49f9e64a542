using System.Globalization;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// Names of places. A place is a device of a silo: the silo's first has the silo's own name, the others <c>silo:1</c>,
/// <c>silo:2</c> and so on, so a silo with one device is its place (docs/decisions/0014). Silos have no colon in their
/// names.
/// </summary>
public static class PlaceName
{
    private const char Colon = ':';

    /// <summary>Orders places by silo, ordinally, then by number.</summary>
    public static IComparer<string> Order { get; } = Comparer<string>.Create((a, b) =>
    {
        int silos = string.CompareOrdinal(SiloOf(a), SiloOf(b));
        return silos != 0 ? silos : NumberOf(a).CompareTo(NumberOf(b));
    });

    /// <summary>Name of a silo's device.</summary>
    /// <param name="silo">Name of the silo.</param>
    /// <param name="number">Number of the device within the silo, from 0.</param>
    public static string Of(string silo, int number) =>
        number == 0 ? silo : string.Create(CultureInfo.InvariantCulture, $"{silo}{Colon}{number}");

    /// <summary>Name of the silo that a place belongs to.</summary>
    public static string SiloOf(string place)
    {
        int colon = place.LastIndexOf(Colon);
        return colon < 0 ? place : place[..colon];
    }

    /// <summary>Number of a place within its silo; 0 for the first.</summary>
    /// <exception cref="ArgumentException">What follows the colon is no number.</exception>
    public static int NumberOf(string place)
    {
        int colon = place.LastIndexOf(Colon);
        return colon < 0 ? 0
            : int.TryParse(place.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                ? number
                : throw new ArgumentException($"'{place}' is not a place such as silo or silo:1");
    }

    /// <summary>True where a place is the named one, or one of the named silo's.</summary>
    public static bool IsOf(string place, string name) => place == name || SiloOf(place) == name;
}
