namespace Krewe.Gpu.Driver;

/// <summary>What vendors publish of their cards: the yardstick of a model FLOP utilisation.</summary>
public static class CardRates
{
    /// <summary>Part of a card's name, and its rate; the first that fits counts.</summary>
    private static readonly (string Name, double Rate)[] _known =
    [
        ("H100 PCIe", 756e12),
        ("H100 NVL", 835e12),
        ("H100", 989e12),
        ("H200 NVL", 836e12),
        ("H200", 989e12),
        ("H800", 989e12),
    ];

    /// <summary>
    /// Dense matrix products of bfloat16 with sums in float32, operations a second, as the data sheet has them (H100 SXM:
    /// 989e12); 0 for a card that is not known.
    /// </summary>
    /// <param name="card">The driver's name of the card, such as <c>NVIDIA H100 80GB HBM3</c>.</param>
    public static double BFloat16(string card) =>
        _known.FirstOrDefault(known => card.Contains(known.Name, StringComparison.Ordinal)).Rate;
}
