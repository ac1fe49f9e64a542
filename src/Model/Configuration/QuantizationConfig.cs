using System.Text.Json.Serialization;

namespace Krewe.Model.Configuration;

/// <summary>
/// <c>quantization_config</c> of a released FP8 checkpoint: weights in E4M3, one float32 multiplier per block in
/// <c>X.weight_scale_inv</c>.
/// </summary>
public sealed record QuantizationConfig
{
    /// <summary><c>fp8</c>.</summary>
    public string QuantMethod { get; init; } = "fp8";

    /// <summary><c>e4m3</c>.</summary>
    public string Fmt { get; init; } = "e4m3";

    /// <summary><c>dynamic</c>: activations are quantised on the fly.</summary>
    public string ActivationScheme { get; init; } = "dynamic";

    /// <summary>Rows and columns of a block that share one scale.</summary>
    public int[] WeightBlockSize { get; init; } = [128, 128];

    /// <summary><c>ue8m0</c> where scales are powers of two (V3.1); null otherwise.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? ScaleFmt { get; init; }
}
