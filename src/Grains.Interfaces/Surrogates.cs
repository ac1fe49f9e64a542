using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Grains.Interfaces;

// The model's own types know nothing of Orleans; these say how they cross the wire between processes. Within a process
// they are passed by reference, since the grain interfaces mark them immutable.
#pragma warning disable CS1591, CA1051 // Each surrogate mirrors the fields of the type that it stands for.

[GenerateSerializer, Alias("krewe.MicroBatch")]
public struct MicroBatchSurrogate
{
    [Id(0)] public int[] Tokens;
    [Id(1)] public int[] Targets;
    [Id(2)] public int[] SequenceStarts;
}

[RegisterConverter]
public sealed class MicroBatchConverter : IConverter<MicroBatch, MicroBatchSurrogate>
{
    public MicroBatch ConvertFromSurrogate(in MicroBatchSurrogate s) => new(s.Tokens, s.Targets, s.SequenceStarts);

    public MicroBatchSurrogate ConvertToSurrogate(in MicroBatch value) =>
        new() { Tokens = value.Tokens, Targets = value.Targets, SequenceStarts = value.SequenceStarts };
}

[GenerateSerializer, Alias("krewe.ForwardOptions")]
public struct ForwardOptionsSurrogate
{
    [Id(0)] public ForwardMode Mode;
    [Id(1)] public double MainScale;
    [Id(2)] public double[] MtpScales;
    [Id(3)] public double Alpha;
    [Id(4)] public BalanceLossScope Scope;
    [Id(5)] public int Units;
}

[RegisterConverter]
public sealed class ForwardOptionsConverter : IConverter<ForwardOptions, ForwardOptionsSurrogate>
{
    public ForwardOptions ConvertFromSurrogate(in ForwardOptionsSurrogate s) =>
        new(s.Mode, s.MainScale, s.MtpScales, new(s.Alpha, s.Scope, s.Units));

    public ForwardOptionsSurrogate ConvertToSurrogate(in ForwardOptions value) => new()
    {
        Mode = value.Mode,
        MainScale = value.MainScale,
        MtpScales = value.MtpScales,
        Alpha = value.Balance.Alpha,
        Scope = value.Balance.Scope,
        Units = value.Balance.Units,
    };
}

[GenerateSerializer, Alias("krewe.MicroBatchLosses")]
public struct MicroBatchLossesSurrogate
{
    [Id(0)] public double MainSum;
    [Id(1)] public int MainCount;
    [Id(2)] public double[] MtpSums;
    [Id(3)] public int[] MtpCounts;
    [Id(4)] public double[] SequenceSums;
    [Id(5)] public int AgreementCount;
    [Id(6)] public int Agreements;
}

[RegisterConverter]
public sealed class MicroBatchLossesConverter : IConverter<MicroBatchLosses, MicroBatchLossesSurrogate>
{
    public MicroBatchLosses ConvertFromSurrogate(in MicroBatchLossesSurrogate s) => new()
    {
        MainSum = s.MainSum,
        MainCount = s.MainCount,
        MtpSums = s.MtpSums,
        MtpCounts = s.MtpCounts,
        SequenceSums = s.SequenceSums,
        AgreementCount = s.AgreementCount,
        Agreements = s.Agreements,
    };

    public MicroBatchLossesSurrogate ConvertToSurrogate(in MicroBatchLosses value) => new()
    {
        MainSum = value.MainSum,
        MainCount = value.MainCount,
        MtpSums = value.MtpSums,
        MtpCounts = value.MtpCounts,
        SequenceSums = value.SequenceSums,
        AgreementCount = value.AgreementCount,
        Agreements = value.Agreements,
    };
}

[GenerateSerializer, Alias("krewe.LayerLoad")]
public struct LayerLoadSurrogate
{
    [Id(0)] public int Layer;
    [Id(1)] public int[] Load;
    [Id(2)] public double BalanceLoss;
}

[RegisterConverter]
public sealed class LayerLoadConverter : IConverter<LayerLoad, LayerLoadSurrogate>
{
    public LayerLoad ConvertFromSurrogate(in LayerLoadSurrogate s) => new(s.Layer, s.Load, s.BalanceLoss);

    public LayerLoadSurrogate ConvertToSurrogate(in LayerLoad value) =>
        new() { Layer = value.Layer, Load = value.Load, BalanceLoss = value.BalanceLoss };
}

[GenerateSerializer, Alias("krewe.GradientNorm")]
public struct GradientNormSurrogate
{
    [Id(0)] public string Name;
    [Id(1)] public double SumOfSquares;
}

[RegisterConverter]
public sealed class GradientNormConverter : IConverter<GradientNorm, GradientNormSurrogate>
{
    public GradientNorm ConvertFromSurrogate(in GradientNormSurrogate s) => new(s.Name, s.SumOfSquares);

    public GradientNormSurrogate ConvertToSurrogate(in GradientNorm value) =>
        new() { Name = value.Name, SumOfSquares = value.SumOfSquares };
}

[GenerateSerializer, Alias("krewe.AdamWStep")]
public struct AdamWStepSurrogate
{
    [Id(0)] public float LearningRate;
    [Id(1)] public float Beta1;
    [Id(2)] public float Beta2;
    [Id(3)] public float Epsilon;
    [Id(4)] public float WeightDecay;
    [Id(5)] public int Step;
    [Id(6)] public float GradientScale;
}

[RegisterConverter]
public sealed class AdamWStepConverter : IConverter<AdamWStep, AdamWStepSurrogate>
{
    public AdamWStep ConvertFromSurrogate(in AdamWStepSurrogate s) =>
        new(s.LearningRate, s.Beta1, s.Beta2, s.Epsilon, s.WeightDecay, s.Step, s.GradientScale);

    public AdamWStepSurrogate ConvertToSurrogate(in AdamWStep value) => new()
    {
        LearningRate = value.LearningRate,
        Beta1 = value.Beta1,
        Beta2 = value.Beta2,
        Epsilon = value.Epsilon,
        WeightDecay = value.WeightDecay,
        Step = value.Step,
        GradientScale = value.GradientScale,
    };
}

[GenerateSerializer, Alias("krewe.StepReport")]
public struct StepReportSurrogate
{
    [Id(0)] public long Step;
    [Id(1)] public double MainLoss;
    [Id(2)] public double[] MtpLosses;
    [Id(3)] public double TotalLoss;
    [Id(4)] public double BalanceLoss;
    [Id(5)] public double GradientNorm;
    [Id(6)] public double LearningRate;
    [Id(7)] public double MaxViolation;
    [Id(8)] public Dictionary<int, long[]> Loads;
    [Id(9)] public int Tokens;
}

[RegisterConverter]
public sealed class StepReportConverter : IConverter<StepReport, StepReportSurrogate>
{
    public StepReport ConvertFromSurrogate(in StepReportSurrogate s) => new(
        s.Step, s.MainLoss, s.MtpLosses, s.TotalLoss, s.BalanceLoss, s.GradientNorm, s.LearningRate, s.MaxViolation,
        s.Loads, s.Tokens);

    public StepReportSurrogate ConvertToSurrogate(in StepReport value) => new()
    {
        Step = value.Step,
        MainLoss = value.MainLoss,
        MtpLosses = value.MtpLosses,
        TotalLoss = value.TotalLoss,
        BalanceLoss = value.BalanceLoss,
        GradientNorm = value.GradientNorm,
        LearningRate = value.LearningRate,
        MaxViolation = value.MaxViolation,
        Loads = new(value.Loads),
        Tokens = value.Tokens,
    };
}

[GenerateSerializer, Alias("krewe.SamplingOptions")]
public struct SamplingOptionsSurrogate
{
    [Id(0)] public float Temperature;
    [Id(1)] public int TopK;
    [Id(2)] public float TopP;
    [Id(3)] public ulong Seed;
}

[RegisterConverter]
public sealed class SamplingOptionsConverter : IConverter<Model.Generation.SamplingOptions, SamplingOptionsSurrogate>
{
    public Model.Generation.SamplingOptions ConvertFromSurrogate(in SamplingOptionsSurrogate s) =>
        new(s.Temperature, s.TopK, s.TopP, s.Seed);

    public SamplingOptionsSurrogate ConvertToSurrogate(in Model.Generation.SamplingOptions value) => new()
    {
        Temperature = value.Temperature,
        TopK = value.TopK,
        TopP = value.TopP,
        Seed = value.Seed,
    };
}

[GenerateSerializer, Alias("krewe.DecodeStep")]
public struct DecodeStepSurrogate
{
    [Id(0)] public int[] Sequences;
    [Id(1)] public int[] Starts;
    [Id(2)] public int[] Tokens;
    [Id(3)] public Model.Generation.SamplingOptions[] Sampling;
    [Id(4)] public int[] Ended;
    [Id(5)] public int Ahead;
}

[RegisterConverter]
public sealed class DecodeStepConverter : IConverter<Model.Generation.DecodeStep, DecodeStepSurrogate>
{
    public Model.Generation.DecodeStep ConvertFromSurrogate(in DecodeStepSurrogate s) => new()
    {
        Sequences = s.Sequences,
        Starts = s.Starts,
        Tokens = s.Tokens,
        Sampling = s.Sampling,
        Ended = s.Ended,
        // Silos that do not know it yet send none.
        Ahead = Math.Max(1, s.Ahead),
    };

    public DecodeStepSurrogate ConvertToSurrogate(in Model.Generation.DecodeStep value) => new()
    {
        Sequences = value.Sequences,
        Starts = value.Starts,
        Tokens = value.Tokens,
        Sampling = value.Sampling,
        Ended = value.Ended,
        Ahead = value.Ahead,
    };
}
