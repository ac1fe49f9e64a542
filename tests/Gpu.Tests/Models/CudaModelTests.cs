using Krewe.Model.Tensors;
using Krewe.Model.Tests.Models;
using Xunit;

namespace Krewe.Gpu.Tests.Models;

/// <summary>Whole models on a card, with the kernels that training and serving take there.</summary>
public sealed class CudaModelTests(ITestOutputHelper output) : ModelContract(output)
{
    protected override IDevice Device { get; } = Card.Device();
}
