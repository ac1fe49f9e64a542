using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>One learnable tensor under its released checkpoint name, with what training keeps beside it.</summary>
public sealed class Parameter
{
    private readonly Tensor _value;

    /// <summary>A parameter with its float32 values.</summary>
    /// <param name="name">Checkpoint name, such as <c>model.layers.3.self_attn.o_proj.weight</c>.</param>
    /// <param name="value">The weight, float32.</param>
    public Parameter(string name, Tensor value)
        : this(name, value.Shape) => _value = value;

    /// <summary>A parameter of inference, whose values are kept as its products read them and nowhere else.</summary>
    /// <param name="name">Checkpoint name.</param>
    /// <param name="shape">Extent of the weight.</param>
    internal Parameter(string name, TensorShape shape) => (Name, Shape) = (name, shape);

    /// <summary>Checkpoint name.</summary>
    public string Name { get; }

    /// <summary>The weight, float32.</summary>
    /// <exception cref="InvalidOperationException">There is no master: the model was loaded for inference.</exception>
    public Tensor Value => HasMaster
        ? _value
        : throw new InvalidOperationException(
            $"'{Name}' is kept only in the precision of its products: load the model for training, or in fp32");

    /// <summary>Extent of the weight.</summary>
    public TensorShape Shape { get; }

    /// <summary>True where <see cref="Value"/> is kept.</summary>
    public bool HasMaster => !_value.IsEmpty;

    /// <summary>
    /// Accumulated gradient of the selected bank (<see cref="ParameterSet.SelectGradients"/>), float32; empty unless the
    /// set was prepared for training.
    /// </summary>
    public Tensor Gradient { get; internal set; }

    /// <summary>AdamW's first moment, float32 or bfloat16; empty unless prepared for training.</summary>
    public Tensor FirstMoment { get; internal set; }

    /// <summary>AdamW's second moment, float32 or bfloat16; empty unless prepared for training.</summary>
    public Tensor SecondMoment { get; internal set; }

    /// <summary>The weight in the precision of its products, or null where that is float32.</summary>
    internal WeightCast? Cast { get; set; }

    /// <summary>True where weight decay applies: matrices, not norm scales.</summary>
    public bool Decays => Shape.Rank >= 2;
}
