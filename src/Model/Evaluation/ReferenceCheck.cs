using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Model.Evaluation;

/// <summary>
/// Runs a model over the inputs of a <c>reference.safetensors</c> and compares hidden states, routing, logits, losses
/// and gradients with it, whatever carries the model: one device or a cluster.
/// </summary>
public static class ReferenceCheck
{
    internal const string Choices = "wrong choices";
    private const string MaxAbs = "max abs";
    private const string RelativeNorm = "relative norm";

    /// <summary>
    /// A gradient smaller than this share of the largest one is measured against that share: where the mathematical
    /// gradient is zero (the gate of a normalised top-1 router) both sides hold nothing but rounding.
    /// </summary>
    private const double GradientFloor = 1e-5;

    /// <summary>Compares everything in <paramref name="reference"/> that the model has.</summary>
    /// <param name="model">Stages and experts, prepared for training where gradients are asked for.</param>
    /// <param name="config">The model's config.</param>
    /// <param name="reference">The reference file.</param>
    /// <param name="gradients">Also runs the backward and compares gradients.</param>
    /// <param name="limits">Tolerances.</param>
    public static async Task<CheckReport> RunAsync(
        IInspectable model, ModelConfig config, SafetensorsFile reference, bool gradients, CheckTolerances limits)
    {
        MicroBatch batch = ReadBatch(reference, config);
        var recipe = new TrainingConfig { BalanceLossAlpha = 0, MtpLossWeight = 0.3 };
        ForwardOptions options = new Trainer(model, config, recipe).Options([batch], ForwardMode.Check);
        MicroBatchReport report = await model.RunAsync(0, 0, batch, options);
        Dictionary<string, double> losses = Losses(report, config, recipe);
        double smallest = gradients ? GradientFloor * LargestGradient(reference) : 0;
        var rows = new List<CheckRow>();
        foreach (SafetensorsTensor tensor in reference.Tensors)
        {
            CheckRow? row = tensor.Name switch
            {
                _ when losses.TryGetValue(tensor.Name, out double loss) =>
                    new(tensor.Name, MaxAbs, Math.Abs(loss - reference.ReadFloat32(tensor.Name)[0]), limits.Loss),
                _ when tensor.Name.StartsWith("grad", StringComparison.Ordinal) =>
                    gradients ? await CompareGradientAsync(model, reference, tensor.Name, smallest, limits.Gradient) : null,
                _ => await CompareActivationAsync(model, config, reference, tensor, limits.Logits),
            };
            if (row is not null)
            {
                rows.Add(row);
            }
        }

        if (rows.Count == 0)
        {
            throw new KreweException(
                $"{reference.Path} holds nothing to compare: expected tensors such as 'logits' or 'layer_output.0'");
        }

        return rows.Any(row => row is { Measure: Choices, Difference: > 0 })
            ? await WithoutOtherChoicesAsync(new(rows), model, config, reference)
            : new(rows);
    }

    /// <summary>
    /// Adds how far the logits are off where every layer chose the reference's experts: near a tie any rounding turns a
    /// choice, and what another expert gives says nothing of the arithmetic.
    /// </summary>
    private static async Task<CheckReport> WithoutOtherChoicesAsync(
        CheckReport report, IInspectable model, ModelConfig config, SafetensorsFile reference)
    {
        float[] logits = await model.ReadActivationAsync(0, "logits") ?? [];
        if (!reference.Tensors.Any(tensor => tensor.Name == "logits") || logits.Length == 0)
        {
            return report;
        }

        float[] expected = reference.ReadFloat32("logits");
        bool[] others = new bool[logits.Length / config.VocabSize];
        foreach (int layer in Enumerable.Range(0, config.NumHiddenLayers).Where(config.IsMoeLayer))
        {
            float[] actual = await model.ReadActivationAsync(0, $"topk_indices.{layer}") ?? [];
            long[] chosen = reference.ReadArray<long>($"topk_indices.{layer}");
            for (int token = 0; token < others.Length; token++)
            {
                int start = token * config.NumExpertsPerTok;
                others[token] |= !chosen.AsSpan(start, config.NumExpertsPerTok).ToArray().Order()
                    .SequenceEqual(actual.Skip(start).Take(config.NumExpertsPerTok).Select(expert => (long)expert));
            }
        }

        float[] same = [.. Rows(logits)], wanted = [.. Rows(expected)];
        return report with
        {
            OtherChoices = others.Count(other => other),
            LogitsMaxAbsSameChoices = MaxDifference(same, wanted),
        };

        IEnumerable<float> Rows(float[] values) => values.Chunk(config.VocabSize).Zip(others)
            .Where(row => !row.Second).SelectMany(row => row.First);
    }

    /// <summary>The inputs of a reference file: labels are the inputs shifted by one.</summary>
    /// <param name="reference">The reference file.</param>
    /// <param name="config">The model whose vocabulary the ids must fit; null for no such check.</param>
    /// <exception cref="KreweException">An id is outside the model's vocabulary, or there are no sequences.</exception>
    public static MicroBatch ReadBatch(SafetensorsFile reference, ModelConfig? config = null)
    {
        SafetensorsTensor ids = reference["input_ids"];
        long[] values = reference.ReadArray<long>("input_ids");
        if (values.Length == 0 || ids.Dimensions.Count != 2)
        {
            throw new KreweException(
                $"{reference.Path}: 'input_ids' is {ids.ShapeText}, some sequences of some tokens are wanted");
        }

        int vocabulary = config?.VocabSize ?? int.MaxValue;
        int wrong = Array.FindIndex(values, id => id < 0 || id >= vocabulary);
        return wrong >= 0
            ? throw new KreweException(
                $"{reference.Path}: 'input_ids' holds {values[wrong]}, the model's vocab_size is {vocabulary}: " +
                "the reference is of another model")
            : MicroBatch.OfTexts([.. values.Select(id => (int)id).Chunk(ids.Shape.Columns)]);
    }

    private static Dictionary<string, double> Losses(MicroBatchReport report, ModelConfig config, TrainingConfig recipe)
    {
        double main = report.Losses.MainSum / report.Losses.MainCount;
        var losses = new Dictionary<string, double>(StringComparer.Ordinal) { ["loss_main"] = main };
        double total = main;
        for (int depth = 1; depth <= config.NumNextnPredictLayers; depth++)
        {
            double loss = report.Losses.MtpSums[depth - 1] / report.Losses.MtpCounts[depth - 1];
            losses[$"mtp_loss.{depth}"] = loss;
            total += recipe.MtpLossWeight / config.NumNextnPredictLayers * loss;
        }

        losses["loss_total"] = total;
        foreach (LayerLoad load in report.Loads)
        {
            losses[$"seq_balance_loss.{load.Layer}"] = load.BalanceLoss;
        }

        return losses;
    }

    private static async Task<CheckRow?> CompareActivationAsync(
        IInspectable model, ModelConfig config, SafetensorsFile reference, SafetensorsTensor tensor, double limit)
    {
        if (tensor.Name == "logits_weights_dequantized")
        {
            float[] logits = await model.ReadActivationAsync(0, "logits") ?? [];
            return new(tensor.Name, MaxAbs, MaxDifference(logits, reference.ReadFloat32(tensor.Name)), limit);
        }

        bool routed = tensor.Name.StartsWith("topk", StringComparison.Ordinal);
        if (tensor.Name is "input_ids" || tensor.Name.StartsWith("adamw", StringComparison.Ordinal))
        {
            return null;
        }

        float[]? actual = await model.ReadActivationAsync(0, tensor.Name);
        if (actual is null)
        {
            return null;
        }

        if (!routed)
        {
            return new(tensor.Name, MaxAbs, MaxDifference(actual, reference.ReadFloat32(tensor.Name)), limit);
        }

        // The reference lists a token's experts in any order: sort each token's by index, weights along with them.
        string layer = tensor.Name[(tensor.Name.IndexOf('.', StringComparison.Ordinal) + 1)..];
        int topK = config.NumExpertsPerTok;
        long[] order = reference.ReadArray<long>($"topk_indices.{layer}");
        float[] expected = tensor.Name.StartsWith("topk_indices", StringComparison.Ordinal)
            ? [.. order.Select(index => (float)index)]
            : reference.ReadFloat32(tensor.Name);
        for (int start = 0; start < order.Length; start += topK)
        {
            Array.Sort(order, expected, start, topK);
        }

        if (!tensor.Name.StartsWith("topk_indices", StringComparison.Ordinal))
        {
            return new(tensor.Name, MaxAbs, MaxDifference(actual, expected), limit);
        }

        int wrong = actual.Length == expected.Length ? actual.Zip(expected).Count(pair => pair.First != pair.Second) : -1;
        return new(tensor.Name, Choices, wrong < 0 ? double.NaN : wrong, 0);
    }

    private static async Task<CheckRow> CompareGradientAsync(
        IInspectable model, SafetensorsFile reference, string name, double smallest, double limit)
    {
        string parameter = name[(name.IndexOf('.', StringComparison.Ordinal) + 1)..];
        float[] actual;
        try
        {
            actual = await model.ReadGradientAsync(parameter);
        }
        catch (KeyNotFoundException)
        {
            throw new KreweException($"{reference.Path}: holds '{name}', the model has no such parameter");
        }

        float[] expected = reference.ReadFloat32(name);
        if (name.StartsWith("gradnorm.", StringComparison.Ordinal))
        {
            double norm = Norm(actual);
            return new(name, RelativeNorm, Relative(Math.Abs(norm - expected[0]), Math.Max(smallest, expected[0])), limit);
        }

        if (actual.Length != expected.Length)
        {
            return new(name, RelativeNorm, double.NaN, limit);
        }

        float[] difference = [.. actual.Zip(expected, (a, e) => a - e)];
        return new(name, RelativeNorm, Relative(Norm(difference), Math.Max(smallest, Norm(expected))), limit);
    }

    private static double LargestGradient(SafetensorsFile reference) => reference.Tensors
        .Where(tensor => tensor.Name.StartsWith("grad", StringComparison.Ordinal))
        .Select(tensor => Norm(reference.ReadFloat32(tensor.Name))).DefaultIfEmpty().Max();

    /// <summary>difference / size; a gradient that must be zero has to be zero.</summary>
    private static double Relative(double difference, double size) =>
        size == 0 ? difference == 0 ? 0 : double.PositiveInfinity : difference / size;

    private static double Norm(float[] values)
    {
        double sum = 0;
        foreach (float value in values)
        {
            sum += (double)value * value;
        }

        return Math.Sqrt(sum);
    }

    private static double MaxDifference(float[] actual, float[] expected)
    {
        if (actual.Length != expected.Length)
        {
            return double.NaN;
        }

        double largest = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            double difference = Math.Abs((double)actual[i] - expected[i]);
            largest = double.IsNaN(difference) ? double.NaN : Math.Max(largest, difference);
        }

        return largest;
    }
}
