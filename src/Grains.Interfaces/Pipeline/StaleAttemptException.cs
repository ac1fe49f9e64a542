namespace Krewe.Grains.Interfaces.Pipeline;

/// <summary>A call belongs to an attempt at a step that was abandoned; its result is wanted by nobody.</summary>
[GenerateSerializer, Alias("krewe.StaleAttemptException")]
public sealed class StaleAttemptException : Exception
{
    /// <summary>Without a message.</summary>
    public StaleAttemptException()
    {
    }

    /// <summary>With a message.</summary>
    public StaleAttemptException(string message) : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    public StaleAttemptException(string message, Exception innerException) : base(message, innerException)
    {
    }
}
