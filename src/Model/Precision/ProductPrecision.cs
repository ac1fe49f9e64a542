using Krewe.Model.Tensors;

namespace Krewe.Model.Precision;

/// <summary>
/// What the operands of a Linear's three products are rounded to: forward (input by weight), data gradient (output
/// gradient by weight) and weight gradient (output gradient by input). Sums are float32 in all of them.
/// </summary>
public sealed record ProductPrecision
{
    /// <summary>Float32 for no rounding, BFloat16, or an FP8 element for tiles.</summary>
    public required DType Operand { get; init; }

    /// <summary>Tiles of inputs along the channels: the left operand of the forward.</summary>
    public TileFormat Activation { get; init; }

    /// <summary>Tiles of output gradients along the channels: the left operand of the data gradient.</summary>
    public TileFormat Gradient { get; init; }

    /// <summary>
    /// Tiles of weights along the inner dimension of the product, which is the other one in the data gradient.
    /// </summary>
    public TileFormat Weight { get; init; }

    /// <summary>
    /// True where the input is cached as the forward quantised it and is quantised again along the tokens from that, as
    /// on Hopper (report 3.5.2); false where the input itself is quantised both ways.
    /// </summary>
    public bool RetilesCached { get; init; }

    /// <summary>No rounding.</summary>
    public static ProductPrecision Float32 { get; } = new() { Operand = DType.Float32 };

    /// <summary>Operands in bfloat16.</summary>
    public static ProductPrecision BFloat16 { get; } = new() { Operand = DType.BFloat16 };

    /// <summary>True where the operands are quantised in tiles.</summary>
    public bool IsTiled => Operand is not (DType.Float32 or DType.BFloat16);

    /// <summary>True where the weight gradient reads the input as it was given, and not a rounded copy of it.</summary>
    public bool KeepsInput => Operand == DType.Float32 || (IsTiled && !RetilesCached);
}
