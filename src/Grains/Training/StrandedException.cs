namespace Krewe.Grains.Training;

/// <summary>No silo is left that could compute, and none can come: the run failed, its input was sound.</summary>
/// <param name="message">One line: what was lost, and how to go on.</param>
internal sealed class StrandedException(string message) : Exception(message);
