using Krewe.Model.Tensors;

namespace Krewe.Grains.Interfaces.Devices;

/// <summary>
/// What a grain call carries of a tensor that travels beside it, through the tensor channel. A ticket is good for one
/// sending and one receiving.
/// </summary>
/// <param name="Id">Number within the sender's incarnation, counted up from 1.</param>
/// <param name="Sender">Incarnation of the sender's channel.</param>
/// <param name="Shape">Extents, outermost first; none for no tensor.</param>
/// <param name="DType">Element type.</param>
/// <param name="Scope">What the tensor belongs to, such as a run: tensors of a scope are discarded together.</param>
/// <param name="Attempt">Attempt within the scope, counted up: lower ones may be discarded.</param>
[GenerateSerializer, Immutable, Alias("krewe.TensorTicket")]
public sealed record TensorTicket(
    [property: Id(0)] long Id, [property: Id(1)] Guid Sender, [property: Id(2)] long[] Shape,
    [property: Id(3)] DType DType, [property: Id(4)] long Scope, [property: Id(5)] long Attempt)
{
    /// <summary>True where there is no tensor: nothing is sent, and the receiver gets an empty one.</summary>
    public bool IsEmpty => Shape.Length == 0;

    /// <summary>Size of the dense tensor; 0 where there is none.</summary>
    /// <exception cref="ArgumentException">More than three dimensions.</exception>
    public long Bytes => IsEmpty ? 0 : TensorShape.Of(Shape).Count * DType.SizeInBytes();

    /// <inheritdoc/>
    public override string ToString() =>
        $"ticket {Id} of {Sender.ToString("N")[..8]}: {DType}[{string.Join(", ", Shape)}], scope {Scope}, attempt {Attempt}";
}
