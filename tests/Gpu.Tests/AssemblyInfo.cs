using Xunit.v3;

// One card: its tests take turns.
[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
