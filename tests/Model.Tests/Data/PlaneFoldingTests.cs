using System.Globalization;
using Krewe.Model.Data.Tokenization;
using Xunit;

namespace Krewe.Model.Tests.Data;

public sealed class PlaneFoldingTests
{
    [Fact]
    public void Stand_ins_have_their_category()
    {
        foreach (UnicodeCategory category in Enum.GetValues<UnicodeCategory>().Where(c => c != UnicodeCategory.Surrogate))
        {
            Assert.Equal(category, CharUnicodeInfo.GetUnicodeCategory(PlaneFolding.StandInOf(category)));
        }
    }

    [Fact]
    public void Offsets_lead_back()
    {
        var folded = new char[6];
        var offsets = new int[7];
        Assert.Equal(4, PlaneFolding.Fold("a🙂b\U0001D49C", folded, offsets));
        Assert.Equal([0, 1, 3, 4, 6], offsets[..5]);
        Assert.Equal('a', folded[0]);
    }
}
