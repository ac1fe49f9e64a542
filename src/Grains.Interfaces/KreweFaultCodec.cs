using System.Buffers;
using Krewe.Model;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization.Buffers;
using Orleans.Serialization.Cloning;
using Orleans.Serialization.Serializers;
using Orleans.Serialization.WireProtocol;

namespace Krewe.Grains.Interfaces;

/// <summary>
/// Lets the kinds of <see cref="KreweException"/> that projects define for themselves, such as out of memory on a GPU,
/// cross the wire as what every silo and client knows: a <see cref="KreweException"/> of the same message. Without it
/// the caller would hear of a missing codec instead of the fault, and take that for one of the cluster.
/// </summary>
/// <param name="services">Of the silo.</param>
public sealed class KreweFaultCodec(IServiceProvider services) : IGeneralizedCodec, IGeneralizedCopier
{
    /// <inheritdoc/>
    public bool IsSupportedType(Type type) =>
        type != typeof(KreweException) && typeof(KreweException).IsAssignableFrom(type);

    /// <inheritdoc/>
    public void WriteField<TBufferWriter>(
        ref Writer<TBufferWriter> writer, uint fieldIdDelta, Type? expectedType, object? value)
        where TBufferWriter : IBufferWriter<byte> =>
        services.GetRequiredService<ICodecProvider>().GetCodec<KreweException>()
            .WriteField(ref writer, fieldIdDelta, expectedType, new(((KreweException)value!).Message));

    /// <summary>Never called: what is written names <see cref="KreweException"/> as its type.</summary>
    public object ReadValue<TInput>(ref Reader<TInput> reader, Field field) =>
        throw new NotSupportedException($"a {nameof(KreweException)} is read by its own codec");

    /// <summary>Exceptions do not change.</summary>
    public object? DeepCopy(object? input, CopyContext context) => input;
}
