using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

public sealed class MemoryLedgerTests
{
    [Fact]
    public void The_largest_holders_are_named()
    {
        var ledger = new MemoryLedger();
        Assert.Equal("nothing", ledger.ToString());
        ledger.Add(1, "experts", 1000);
        ledger.Add(2, "cache", 500);
        ledger.Add(3, "experts", 24);
        Assert.Equal("experts 1,024, cache 500", ledger.ToString());
        ledger.Add(4, "a", 70);
        ledger.Add(5, "b", 60);
        ledger.Add(6, "c", 50);
        Assert.Equal("experts 1,024, cache 500, a 70 and 2 more 110", ledger.ToString());
        ledger.Remove(1);
        ledger.Remove(3);
        Assert.Equal("cache 500, a 70, b 60 and 1 more 50", ledger.ToString());
    }
}
