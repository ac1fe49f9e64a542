using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>Rates of the data sheets, by the names that drivers give.</summary>
public class CardRatesTests
{
    [Theory]
    [InlineData("NVIDIA H100 80GB HBM3", 989e12)]
    [InlineData("NVIDIA H100 PCIe", 756e12)]
    [InlineData("NVIDIA H100 NVL", 835e12)]
    [InlineData("NVIDIA H200", 989e12)]
    [InlineData("NVIDIA H200 NVL", 836e12)]
    [InlineData("A card of next year", 0)]
    public void Of_a_card(string name, double rate) => Assert.Equal(rate, CardRates.BFloat16(name));
}
