namespace Krewe.Grains.Training;

/// <summary>The loss of a run is no number any more: the run failed, its input was sound.</summary>
/// <param name="message">One line: which step, and what may help.</param>
internal sealed class DivergedException(string message) : Exception(message);
