using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Grains.Tests.Devices;

/// <summary>Names of the devices of a silo, and who is found under them.</summary>
public class PlaceNameTests
{
    [Theory]
    [InlineData("a", 0, "a")]
    [InlineData("a", 1, "a:1")]
    [InlineData("silo-12", 10, "silo-12:10")]
    public void A_name_says_silo_and_number(string silo, int number, string place)
    {
        Assert.Equal(place, PlaceName.Of(silo, number));
        Assert.Equal((silo, number), (PlaceName.SiloOf(place), PlaceName.NumberOf(place)));
        Assert.True(PlaceName.IsOf(place, silo));
        Assert.True(PlaceName.IsOf(place, place));
        Assert.False(PlaceName.IsOf(place, "other"));
    }

    [Fact]
    public void One_place_is_not_all_of_its_silo() => Assert.False(PlaceName.IsOf("a", "a:1"));

    [Fact]
    public void What_is_no_number_is_no_place() => Assert.Equal(
        "'a:b' is not a place such as silo or silo:1",
        Assert.Throws<ArgumentException>(() => PlaceName.NumberOf("a:b")).Message);

    [Fact]
    public void Places_of_a_silo_stand_together_and_by_number() => Assert.Equal(
        ["s-1", "s-1:1", "s-1:2", "s-1:10", "s-10", "s-10:1", "s-2"],
        new[] { "s-10:1", "s-1:10", "s-2", "s-1:2", "s-10", "s-1", "s-1:1" }.Order(PlaceName.Order));

    [Fact]
    public void A_silo_knows_its_own_places_alone()
    {
        using var pool = new ComputePool(1);
        using var hosts = new DeviceHosts("a", [new CpuDevice(pool, "cpu:0"), new CpuDevice(pool, "cpu:1")]);

        Assert.Equal(["a", "a:1"], hosts.All.Select(host => host.Place));
        Assert.Equal("cpu:1", hosts.Of("a:1").Device.Name);
        Assert.Null(hosts.Find("b"));
        Assert.Equal(
            "silo 'a' has no device 'a:2', only 'a', 'a:1'",
            Assert.Throws<KreweException>(() => hosts.Of("a:2")).Message);
        Assert.Throws<ArgumentException>(() => new DeviceHosts("a", []));
    }
}
