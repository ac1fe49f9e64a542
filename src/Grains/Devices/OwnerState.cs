using Krewe.Model.Checkpoints;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// What an expert, a stage, the embedding or the head must not lose between two steps, as one run of bytes: weights and moments parameter by
/// parameter, then the routing biases.
/// </summary>
/// <param name="key">Name among the owners of a run: <c>expert/3/12</c>, <c>stage/0</c>, <c>embedding</c> or <c>head</c>.</param>
/// <param name="parameters">Weights and moments.</param>
/// <param name="biases">Routing biases by checkpoint name; a stage's copies for both directions have their own.</param>
internal sealed class OwnerState(string key, ParameterSet parameters, IReadOnlyList<(string Name, Tensor Bias)> biases)
{
    /// <summary>Key of the embedding.</summary>
    public const string EmbeddingKey = "embedding";

    /// <summary>Key of the head.</summary>
    public const string HeadKey = "head";

    private const int RowBytes = 4096;

    /// <summary>Name among the owners of a run.</summary>
    public string Key { get; } = key;

    /// <summary>Weights and moments.</summary>
    public ParameterSet Parameters { get; } = parameters;

    /// <summary>Routing biases by checkpoint name.</summary>
    public IReadOnlyList<(string Name, Tensor Bias)> Biases { get; } = biases;

    /// <summary>Key of an expert.</summary>
    public static string ExpertKey(int layer, int index) =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"expert/{layer}/{index}");

    /// <summary>Key of a stage; its copies for both directions are the same state.</summary>
    public static string StageKey(int stage) =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"stage/{stage}");

    /// <summary>Key of the owner of a parameter that is no routed expert's.</summary>
    /// <param name="parameter">Checkpoint name.</param>
    /// <param name="stage">The stage that it belongs to.</param>
    public static string KeyOf(string parameter, int stage) => parameter switch
    {
        DeepSeekNames.EmbedTokens => EmbeddingKey,
        DeepSeekNames.LmHead => HeadKey,
        _ => StageKey(stage),
    };

    /// <summary>State of an expert.</summary>
    public static OwnerState Of(Expert expert) => new(ExpertKey(expert.Layer, expert.Index), expert.Parameters, []);

    /// <summary>State of a stage.</summary>
    public static OwnerState Of(ModelStage stage) => new(
        StageKey(stage.Range.Index), stage.Parameters,
        [.. stage.Biases.OrderBy(bias => bias.Key).Select(bias => (ModelStage.BiasName(bias.Key), bias.Value))]);

    /// <summary>State of the embedding.</summary>
    public static OwnerState Of(TokenEmbedding embedding) => new(EmbeddingKey, embedding.Parameters, []);

    /// <summary>State of the head.</summary>
    public static OwnerState Of(OutputHead head) => new(HeadKey, head.Parameters, []);

    /// <summary>Room for the state in an arena of the host.</summary>
    public Tensor Allocate(Arena arena)
    {
        long bytes = Parts().Sum(part => part.Tensor.Bytes);
        return arena.Allocate(new TensorShape(checked((int)((bytes + RowBytes - 1) / RowBytes)), RowBytes), DType.UInt8);
    }

    /// <summary>Copies the state to host memory; inside submitted work.</summary>
    public void Save(IKernels kernels, Tensor destination)
    {
        nint address = destination.HostAddress;
        foreach ((_, _, Tensor tensor) in Parts())
        {
            kernels.Transfer(tensor, new(address, tensor.Shape, tensor.DType));
            address += (nint)tensor.Bytes;
        }
    }

    /// <summary>Copies the state from host memory; inside submitted work.</summary>
    public void Load(IKernels kernels, Tensor source, int step)
    {
        nint address = source.HostAddress;
        foreach ((_, _, Tensor tensor) in Parts())
        {
            kernels.Transfer(new(address, tensor.Shape, tensor.DType), tensor);
            address += (nint)tensor.Bytes;
        }

        Parameters.AppliedStep = step;
    }

    /// <summary>A part of a saved state, or empty where the owner has none of that name.</summary>
    public Tensor View(Tensor saved, string name, ParameterPart part)
    {
        nint address = saved.HostAddress;
        foreach ((string owner, ParameterPart kind, Tensor tensor) in Parts())
        {
            if (owner == name && kind == part)
            {
                return new(address, tensor.Shape, tensor.DType);
            }

            address += (nint)tensor.Bytes;
        }

        return default;
    }

    private IEnumerable<(string Name, ParameterPart Part, Tensor Tensor)> Parts()
    {
        foreach (Parameter parameter in Parameters.All)
        {
            yield return (parameter.Name, ParameterPart.Value, parameter.Value);
            yield return (parameter.Name, ParameterPart.FirstMoment, parameter.FirstMoment);
            yield return (parameter.Name, ParameterPart.SecondMoment, parameter.SecondMoment);
        }

        foreach ((string name, Tensor bias) in Biases)
        {
            yield return (name, ParameterPart.Value, bias);
        }
    }
}
