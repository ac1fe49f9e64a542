namespace Krewe.Grains.Training;

/// <summary>Another activation of the run grain drives the run: the silo of this one was taken for dead.</summary>
/// <param name="run">Name of the run.</param>
internal sealed class SupersededException(string run) : Exception($"run '{run}' goes on elsewhere: this silo was taken for dead");
