using Krewe.Model.Tensors;

namespace Krewe.Model.Precision;

/// <summary>
/// Which product of the model runs in what, what is cached in what, and what stays high (report 3.3). On the CPU it is
/// emulated: values are rounded as the recipe says, sums are float32.
/// </summary>
/// <remarks>
/// High under every recipe, as float32: embedding, router, norms, rotary embedding, softmax, the residual stream, logits
/// and losses, master weights and weight gradients.
/// </remarks>
public sealed partial record PrecisionRecipe
{
    /// <summary>Name on the command line; with the parts taken from others, where there are such (<see cref="Get"/>).</summary>
    public required string Name { get; init; }

    /// <summary>Projections of attention but the last; dense MLPs and shared experts.</summary>
    public ProductPrecision Linear { get; init; } = ProductPrecision.Float32;

    /// <summary>
    /// What the operands of the attention core's products are rounded to, forward and backward: Float32 or BFloat16.
    /// Decoding over the latent cache keeps float32.
    /// </summary>
    public DType Attention { get; init; } = DType.Float32;

    /// <summary>The Linear after attention (o_proj).</summary>
    public ProductPrecision AttentionOutput { get; init; } = ProductPrecision.Float32;

    /// <summary>Routed experts.</summary>
    public ProductPrecision Experts { get; init; } = ProductPrecision.Float32;

    /// <summary>eh_proj of multi-token prediction, which released FP8 checkpoints keep in bfloat16.</summary>
    public ProductPrecision MtpProjection { get; init; } = ProductPrecision.Float32;

    /// <summary>
    /// The output head: Float32 or BFloat16, as the report keeps it (3.3.1); there the gradient of the logits is rounded
    /// too, once for both gradients. Tiles are not for it.
    /// </summary>
    public ProductPrecision Head { get; init; } = ProductPrecision.Float32;

    /// <summary>
    /// What the output of attention is kept in for o_proj and for its own backward; null for no rounding.
    /// </summary>
    public TileFormat? AttentionCache { get; init; }

    /// <summary>
    /// What gate and up projections are kept in for the backward, which computes the activation anew; null for no
    /// rounding.
    /// </summary>
    public TileFormat? SwiGluCache { get; init; }

    /// <summary>
    /// What gradient rows travel to the experts in; null for float32. (Input rows travel in the experts' activation tiles.)
    /// </summary>
    public TileFormat? Dispatch { get; init; }

    /// <summary>What rows travel back from the experts in, forward and backward: Float32 or BFloat16.</summary>
    public DType Combine { get; init; } = DType.Float32;

    /// <summary>Storage of AdamW's moments where the user does not choose: Float32 or BFloat16.</summary>
    public DType Moments { get; init; } = DType.Float32;

    /// <summary>What the latent cache of generation keeps latents and rotated keys in: Float32 or BFloat16.</summary>
    public DType LatentCache { get; init; } = DType.Float32;

    /// <summary>
    /// True where weights keep the float32 masters that training needs; false keeps only what the forward's products
    /// read (<see cref="ForInference"/>).
    /// </summary>
    public bool KeepsMasters { get; init; } = true;

    /// <summary>Everything in float32.</summary>
    public static PrecisionRecipe Fp32 { get; } = new() { Name = "fp32" };

    /// <summary>Operands of all Linears, of attention and of the head in bfloat16: what FP8 is compared with.</summary>
    public static PrecisionRecipe Bf16 { get; } = new()
    {
        Name = "bf16",
        Linear = ProductPrecision.BFloat16,
        Attention = DType.BFloat16,
        AttentionOutput = ProductPrecision.BFloat16,
        Experts = ProductPrecision.BFloat16,
        MtpProjection = ProductPrecision.BFloat16,
        Head = ProductPrecision.BFloat16,
        Combine = DType.BFloat16,
        LatentCache = DType.BFloat16,
    };

    /// <summary>The report's recipe: E4M3, 1x128 by 128x128, powers of two where rows are turned or travel.</summary>
    public static PrecisionRecipe Fp8 { get; } = Bf16 with
    {
        Name = "fp8",
        Linear = Hopper(powerOfTwo: false, retilesCached: true),
        AttentionOutput = Hopper(powerOfTwo: true, retilesCached: false),
        Experts = Hopper(powerOfTwo: true, retilesCached: true),
        AttentionCache = new(DType.Float12E5M6, 1, TileQuantization.TileSize, PowerOfTwo: true),
        SwiGluCache = new(DType.Float8E4M3, 1, TileQuantization.TileSize),
        Dispatch = new(DType.Float8E4M3, 1, TileQuantization.TileSize, PowerOfTwo: true),
        Moments = DType.BFloat16,
    };

    /// <summary>Blackwell's microscaling: E4M3 with a power of two per 32 elements along every inner dimension.</summary>
    public static PrecisionRecipe MxFp8 { get; } = Fp8 with
    {
        Name = "mxfp8",
        Linear = Blackwell(),
        AttentionOutput = Blackwell(),
        Experts = Blackwell(),
        SwiGluCache = Micro,
        Dispatch = Micro,
    };

    /// <summary>Every recipe that has a name of its own.</summary>
    public static IReadOnlyList<PrecisionRecipe> All { get; } = [Fp32, Bf16, Fp8, MxFp8];

    /// <summary>Their names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. All.Select(recipe => recipe.Name)];

    /// <summary>
    /// The same arithmetic over weights without masters: a matrix whose products read a rounded copy is kept as that copy
    /// alone. Nothing can be trained by it.
    /// </summary>
    public PrecisionRecipe ForInference() => this with { KeepsMasters = false };

    private static TileFormat Micro => new(DType.Float8E4M3, 1, 32, PowerOfTwo: true);

    private static ProductPrecision Hopper(bool powerOfTwo, bool retilesCached)
    {
        const int Side = TileQuantization.TileSize;
        var row = new TileFormat(DType.Float8E4M3, 1, Side, powerOfTwo);
        return new()
        {
            Operand = DType.Float8E4M3,
            // The released activation kernel's bound; gradients lie below it and have none.
            Activation = row with { SmallestMax = 1e-4f },
            Gradient = row,
            Weight = new(DType.Float8E4M3, Side, Side),
            RetilesCached = retilesCached,
        };
    }

    private static ProductPrecision Blackwell() => new()
    {
        Operand = DType.Float8E4M3,
        Activation = Micro,
        Gradient = Micro,
        Weight = Micro,
    };
}
