using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels;
using Xunit;

namespace Krewe.Gpu.Tests;

/// <summary>The GPU of this machine, where it has one that kernels can be compiled for.</summary>
internal static class Card
{
    private static readonly Lock Gate = new();
    private static readonly Dictionary<ProductPath, CudaDevice> Devices = [];

    /// <summary>Why tests that need a card cannot run here, or null.</summary>
    public static string? Missing { get; } = CudaProbe.Run().Obstacle;

    /// <summary>The first GPU, opened once for each path; skips the test, with the reason, where there is none.</summary>
    public static CudaDevice Device(ProductPath products = ProductPath.Fast)
    {
        Require();
        lock (Gate)
        {
            return Devices.TryGetValue(products, out CudaDevice? device)
                ? device
                : Devices[products] = new(0, products: products);
        }
    }

    /// <summary>Skips the test, with the reason, where there is no card.</summary>
    public static void Require() => Assert.SkipWhen(Missing is not null, $"needs a GPU: {Missing}");
}
