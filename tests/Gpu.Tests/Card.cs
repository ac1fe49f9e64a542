using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Xunit;

namespace Krewe.Gpu.Tests;

/// <summary>The GPU of this machine, where it has one that kernels can be compiled for.</summary>
internal static class Card
{
    private static readonly Lock Gate = new();
    private static CudaDevice? _device;

    /// <summary>Why tests that need a card cannot run here, or null.</summary>
    public static string? Missing { get; } = Reason();

    /// <summary>The first GPU, opened once; skips the test, with the reason, where there is none.</summary>
    public static CudaDevice Device()
    {
        Require();
        lock (Gate)
        {
            return _device ??= new(0);
        }
    }

    /// <summary>Skips the test, with the reason, where there is no card.</summary>
    public static void Require() => Assert.SkipWhen(Missing is not null, $"needs a GPU: {Missing}");

    private static string? Reason()
    {
        CudaFindings found = CudaProbe.Run();
        return found switch
        {
            { Driver: null } => "this machine has no NVIDIA driver",
            { Fault: { } fault } => fault,
            { Devices.Count: 0 } => "the driver knows no device",
            { Nvrtc: null } => "NVRTC is missing, so no kernel can be compiled",
            _ => null,
        };
    }
}
