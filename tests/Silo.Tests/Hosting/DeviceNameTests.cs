using Krewe.Silo.Hosting;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

public class DeviceNameTests
{
    [Theory]
    [InlineData("cpu", "cpu")]
    [InlineData("cuda:0", "cuda:0")]
    [InlineData("cuda:1, cpu,cuda:12", "cuda:1 cpu cuda:12")]
    public void Devices_are_read_in_their_order(string text, string expected)
    {
        Assert.True(DeviceName.TryParse(text, out DeviceName[] devices));
        Assert.Equal(expected, string.Join(' ', devices));
    }

    [Theory]
    [InlineData("")]
    [InlineData("cuda")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:0,")]
    [InlineData("CPU")]
    public void Anything_else_is_refused(string text) => Assert.False(DeviceName.TryParse(text, out _));
}
