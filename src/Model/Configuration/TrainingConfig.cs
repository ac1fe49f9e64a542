using System.Text.Json;
using System.Text.Json.Serialization;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Configuration;

/// <summary>Everything that decides the numbers of a training run, but the model and the data.</summary>
public sealed record TrainingConfig
{
    private static readonly JsonSerializerOptions JsonOptions = new()
    {
        Converters = { new JsonStringEnumConverter() },
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        WriteIndented = true,
    };

    /// <summary>Optimizer steps of the run.</summary>
    public long Steps { get; init; } = 1200;

    /// <summary>Sequences of one global batch.</summary>
    public int BatchSize { get; init; } = 4;

    /// <summary>Micro-batches that the global batch is cut into; must divide it.</summary>
    public int MicroBatches { get; init; } = 1;

    /// <summary>Tokens of one sequence.</summary>
    public int SequenceLength { get; init; } = 256;

    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 4e-3;

    /// <summary>Steps of the linear warm-up.</summary>
    public long WarmupSteps { get; init; } = 50;

    /// <summary>AdamW's decay of the first moment.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>AdamW's decay of the second moment.</summary>
    public double Beta2 { get; init; } = 0.95;

    /// <summary>Added to the root of the second moment.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Decoupled weight decay of matrices.</summary>
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Largest global gradient norm; 0 for no clipping.</summary>
    public double ClipNorm { get; init; } = 1.0;

    /// <summary>
    /// Gamma of the loss-free balance: how far a bias moves in one step; 0 freezes it. The report's 0.001 is for runs
    /// of hundreds of thousands of steps; a run of a thousand or so needs ten times that to get anywhere.
    /// </summary>
    public double BiasUpdateSpeed { get; init; } = 1e-2;

    /// <summary>Lambda: weight of the mean MTP loss.</summary>
    public double MtpLossWeight { get; init; } = 0.3;

    /// <summary>Alpha of the balance loss; null takes the model's (1e-4 where the config has none).</summary>
    public double? BalanceLossAlpha { get; init; }

    /// <summary>Sequence-wise (the report's) or over the micro-batch (the classic auxiliary loss).</summary>
    public BalanceLossScope BalanceLossScope { get; init; }

    /// <summary>Storage of AdamW's moments: Float32 or BFloat16.</summary>
    public DType MomentType { get; init; } = DType.Float32;

    /// <summary>Name of the precision recipe of the products; master weights and sums are float32 under each.</summary>
    public string Precision { get; init; } = PrecisionRecipe.Fp32.Name;

    /// <summary>Seed of parameters and data order.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Reads a recipe that <see cref="ToJson"/> wrote.</summary>
    /// <param name="json">The text.</param>
    /// <param name="where">Where it comes from, for the message.</param>
    /// <exception cref="KreweException">It is no recipe.</exception>
    public static TrainingConfig Parse(string json, string where)
    {
        try
        {
            return JsonSerializer.Deserialize<TrainingConfig>(json, JsonOptions)
                ?? throw new KreweException($"{where}: the training recipe is empty");
        }
        catch (JsonException exception)
        {
            throw new KreweException($"{where}: no training recipe: {exception.Message}", exception);
        }
    }

    /// <summary>The recipe as JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, JsonOptions);

    /// <summary>Throws one line with every fault.</summary>
    /// <exception cref="KreweException">There is at least one.</exception>
    public void ThrowIfInvalid(string where)
    {
        IReadOnlyList<string> faults = Validate();
        if (faults.Count > 0)
        {
            throw new KreweException($"{where}: {string.Join("; ", faults)}");
        }
    }

    /// <summary>Every fault at once, one line each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var faults = new List<string>();
        Check(Steps >= 1, $"steps must be at least 1, not {Steps}");
        Check(BatchSize >= 1, $"batch size must be at least 1 sequence, not {BatchSize}");
        Check(MicroBatches >= 1 && BatchSize % Math.Max(1, MicroBatches) == 0,
            $"{MicroBatches} micro-batches do not divide the batch of {BatchSize} sequences");
        Check(SequenceLength >= 2, $"sequence length must be at least 2 tokens, not {SequenceLength}");
        Check(double.IsFinite(LearningRate) && LearningRate > 0, $"learning rate must be positive, not {LearningRate}");
        Check(WarmupSteps >= 0, $"warm-up steps must not be negative: {WarmupSteps}");
        Check(Beta1 is >= 0 and < 1 && Beta2 is >= 0 and < 1, $"betas must lie in [0, 1): {Beta1}, {Beta2}");
        Check(Epsilon > 0, $"epsilon must be positive, not {Epsilon}");
        Check(WeightDecay >= 0 && ClipNorm >= 0, $"weight decay and clip norm must not be negative: {WeightDecay}, {ClipNorm}");
        Check(BiasUpdateSpeed >= 0, $"bias update speed must not be negative: {BiasUpdateSpeed}");
        Check(double.IsFinite(MtpLossWeight) && MtpLossWeight >= 0,
            $"MTP loss weight must not be negative: {MtpLossWeight}");
        Check(BalanceLossAlpha is null or (>= 0 and < double.PositiveInfinity),
            $"balance loss alpha must not be negative: {BalanceLossAlpha}");
        Check(MomentType is DType.Float32 or DType.BFloat16, $"moments are float32 or bfloat16, not {MomentType}");
        try
        {
            PrecisionRecipe.Get(Precision);
        }
        catch (KreweException exception)
        {
            faults.Add(exception.Message);
        }
        return faults;

        void Check(bool holds, string fault)
        {
            if (!holds)
            {
                faults.Add(fault);
            }
        }
    }
}
