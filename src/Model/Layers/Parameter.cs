using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>One learnable tensor under its released checkpoint name, with what training keeps beside it.</summary>
/// <param name="name">Checkpoint name, such as <c>model.layers.3.self_attn.o_proj.weight</c>.</param>
/// <param name="value">The weight, float32.</param>
public sealed class Parameter(string name, Tensor value)
{
    /// <summary>Checkpoint name.</summary>
    public string Name { get; } = name;

    /// <summary>The weight, float32.</summary>
    public Tensor Value { get; } = value;

    /// <summary>Extent of the weight.</summary>
    public TensorShape Shape => Value.Shape;

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
