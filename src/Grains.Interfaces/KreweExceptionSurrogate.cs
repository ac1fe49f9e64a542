using Krewe.Model;

namespace Krewe.Grains.Interfaces;

/// <summary>How a fault that the user can mend crosses the wire: by its message.</summary>
[GenerateSerializer, Alias("krewe.KreweException")]
public struct KreweExceptionSurrogate
{
    /// <summary>The one line for the user.</summary>
    [Id(0)] public string Message { get; set; }
}

/// <summary>Converts <see cref="KreweException"/>.</summary>
[RegisterConverter]
public sealed class KreweExceptionConverter : IConverter<KreweException, KreweExceptionSurrogate>
{
    /// <inheritdoc/>
    public KreweException ConvertFromSurrogate(in KreweExceptionSurrogate surrogate) => new(surrogate.Message);

    /// <inheritdoc/>
    public KreweExceptionSurrogate ConvertToSurrogate(in KreweException value) => new() { Message = value.Message };
}
