using Xunit.v3;

// Each test starts a cluster that computes on every core, and some count the tickets of the whole process.
[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
