namespace Krewe.Grains.Interfaces;

/// <summary>A pinned grain was called where the plan does not want it; it is on its way, the call is to be made again.</summary>
[GenerateSerializer, Alias("krewe.MisplacedGrainException")]
public sealed class MisplacedGrainException : Exception
{
    /// <summary>Without a message.</summary>
    public MisplacedGrainException()
    {
    }

    /// <summary>With a message.</summary>
    public MisplacedGrainException(string message) : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    public MisplacedGrainException(string message, Exception innerException) : base(message, innerException)
    {
    }
}
