using Krewe.Model.Configuration;
using Xunit;

namespace Krewe.Model.Tests.Configuration;

/// <summary>Constants of the published models (report 4.2, README_WEIGHTS).</summary>
public sealed class ParameterCountsTests
{
    [Fact]
    public void DeepSeek_V3()
    {
        ParameterCounts counts = ParameterCounts.Of(ModelPresets.Get("671b"));
        Assert.Equal(671.026e9, counts.Total, 0.5e6);
        Assert.Equal(11.507e9, counts.MoeLayer, 0.5e6);
        Assert.Equal(44.04e6, counts.Expert, 5e3);
        Assert.Equal(187.1e6, counts.Attention, 0.05e6);
        Assert.Equal(583.5e6, counts.DenseLayer, 0.05e6);
        Assert.Equal(11.61e9, counts.Mtp, 5e6);
        Assert.Equal(129280L * 7168, counts.Embedding);
        Assert.InRange(counts.Active, 36.5e9, 37.0e9);
    }

    [Fact]
    public void DeepSeek_V2_Lite()
    {
        ParameterCounts counts = ParameterCounts.Of(ModelPresets.Get("16b"));
        Assert.Equal(15.7e9, counts.Total, 0.05e9);
        Assert.Equal(0, counts.Mtp);
        Assert.InRange(counts.Active, 2.2e9, 2.8e9);
    }

    [Fact]
    public void A_dense_model_has_no_experts()
    {
        ParameterCounts counts = ParameterCounts.Of(ModelPresets.Get("tiny") with { NRoutedExperts = 0 });
        Assert.Equal((0, 0), (counts.MoeLayer, counts.Expert));
        Assert.Equal(counts.Total - counts.Embedding + 128, counts.Active);
    }
}
