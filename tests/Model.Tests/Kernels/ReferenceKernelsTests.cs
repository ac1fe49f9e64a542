using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Reference;

namespace Krewe.Model.Tests.Kernels;

/// <summary>The oracle under its own contract: the finite differences and hand-made cases are what bind here.</summary>
public sealed class ReferenceKernelsTests : KernelContract
{
    protected override IKernels Kernels { get; } = new ReferenceKernels();
}
