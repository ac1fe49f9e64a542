namespace Krewe.TestSupport;

/// <summary>Two tensors that had to agree do not; the message names the first differing coordinate.</summary>
public sealed class TensorDifferenceException(string message) : Exception(message);
