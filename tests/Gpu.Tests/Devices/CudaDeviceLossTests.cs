using System.Diagnostics;
using Krewe.Gpu.Compilation;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Devices;

/// <summary>
/// A card that a kernel has run wild on: lost to its process, which can say so and end. Each case has a process of its
/// own, since no test after it could use the card.
/// </summary>
public sealed class CudaDeviceLossTests(ITestOutputHelper output)
{
    /// <summary>Set in the processes that may lose the card.</summary>
    private const string Variable = "KREWE_TEST_LOSES_THE_CARD";

    private const string Source = """
        // Far outside of any allocation.
        extern "C" __global__ void run_wild(unsigned long long address) {
            *(volatile float*)(address + (1ull << 46)) = 1.0f;
        }

        // Not where four bytes may lie.
        extern "C" __global__ void misalign(unsigned long long address) {
            *(volatile float*)(address + 2ull) = 1.0f;
        }

        extern "C" __global__ void trap(unsigned long long address) {
            asm volatile("trap;");
        }
        """;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("run_wild", "CUDA_ERROR_ILLEGAL_ADDRESS (700)")]
    [InlineData("misalign", "CUDA_ERROR_MISALIGNED_ADDRESS (716)")]
    [InlineData("trap", "CUDA_ERROR_LAUNCH_FAILED (719)")]
    public async Task A_kernel_that_runs_wild_loses_the_card_and_the_process_ends(string kernel, string code)
    {
        Card.Require();
        long start = Stopwatch.GetTimestamp();
        using Process child = Process.Start(new ProcessStartInfo(
            Environment.ProcessPath!, ["-method", $"*.{nameof(In_a_process_of_its_own)}", "-showLiveOutput"])
        {
            RedirectStandardOutput = true,
            Environment = { [Variable] = kernel },
        })!;
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        string said = await child.StandardOutput.ReadToEndAsync(cancellation).WaitAsync(Patience);
        await child.WaitForExitAsync(cancellation).WaitAsync(Patience);
        output.WriteLine($"{Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s: {said}");
        Assert.Equal(0, child.ExitCode);
        Assert.Contains($"{code}; a kernel went wrong before this call", said, StringComparison.Ordinal);
        Assert.Contains("Failed: 0, Skipped: 0", said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task In_a_process_of_its_own()
    {
        string? wanted = Environment.GetEnvironmentVariable(Variable);
        Assert.SkipWhen(wanted is null, $"loses the card: run by the other test, with {Variable}");
        Card.Require();
        var device = new CudaDevice(0);
        Arena arena = device.CreateArena("before");
        Tensor tensor = arena.Allocate(1000);
        await device.SubmitAsync(kernels => kernels.Fill(tensor, 1));
        DeviceLostException? told = null;
        device.Loss.Register(loss => told = loss);
        await LaunchAsync(device, wanted!, tensor.Address);

        // Nobody waits for the kernel: one of the next works meets what it did, and from then on none is run.
        DeviceLostException lost = await Assert.ThrowsAsync<DeviceLostException>(async () =>
        {
            for (int i = 0; i < 10_000; i++)
            {
                await device.SubmitAsync(kernels => kernels.Fill(tensor, 2));
            }
        });
        output.WriteLine(lost.Message);
        Assert.Equal(("cuda:0", lost.Message), (lost.Device, told?.Message));
        Assert.DoesNotContain('\n', lost.Message);
        long start = Stopwatch.GetTimestamp();
        Task[] later =
            [.. Enumerable.Range(0, 100).Select(_ => device.SubmitAsync(_ => Assert.Fail("the card is lost")))];
        foreach (Task call in later)
        {
            Assert.Equal(lost.Message, (await Assert.ThrowsAsync<DeviceLostException>(() => call)).Message);
        }

        using Arena after = device.CreateArena("after");
        Assert.Throws<DeviceLostException>(() => after.Allocate(10));
        using Arena host = device.CreateHostArena("after");
        Assert.Throws<DeviceLostException>(() => host.Allocate(10));
        arena.Dispose();
        device.Dispose();
        Assert.InRange(Stopwatch.GetElapsedTime(start), TimeSpan.Zero, TimeSpan.FromSeconds(10));
    }

    /// <summary>The kernel runs on a stream of the test's: its context is the device's.</summary>
    private static Task LaunchAsync(CudaDevice device, string name, nint address) => device.SubmitAsync(_ =>
    {
        var source = new KernelSource("DeviceLossTests.cu", Source, new Dictionary<string, string>(), []);
        byte[] cubin = KernelCache.OfThisUser().GetOrCompile(source, new(device.Context.ComputeCapability));
        CudaKernel kernel = new CudaModule("DeviceLossTests.cu", cubin).Kernel(name);
        KernelArguments arguments = new();
        arguments.Add(address);
        kernel.Launch(new CudaStream(), new(new(1), new(32)), ref arguments);
    });
}
