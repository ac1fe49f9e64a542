using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Tensors;

/// <summary>What is left of a device that was lost: typed errors at once, and a quiet end.</summary>
public sealed class DeviceLossTests
{
    public static TheoryData<string> Devices => ["cpu", "reference", "separate", "paced", "losing"];

    [Theory, MemberData(nameof(Devices))]
    public async Task Every_later_call_fails_at_once_and_disposal_is_quiet(string kind)
    {
        using ComputePool pool = ComputePool.ForThisMachine(1);
        IDevice device = Create(kind, pool);
        Arena arena = device.CreateArena("lost");
        Tensor tensor = arena.Allocate(4, 4);
        await device.SubmitAsync(kernels => kernels.Fill(tensor, 1));
        var heard = new List<DeviceLostException>();
        device.Loss.Register(heard.Add);

        device.Loss.Report("Synchronize", "Synchronize gave LOST (700)");
        device.Loss.Report("Later", "what came of it");
        device.Loss.Register(heard.Add);
        bool ran = false;
        for (int i = 0; i < 3; i++)
        {
            Task call = device.SubmitAsync(_ => ran = true);
            DeviceLostException lost = await Assert.ThrowsAsync<DeviceLostException>(() => call);
            Assert.Equal(("Synchronize", "Synchronize gave LOST (700)"), (lost.Call, lost.Cause));
            Assert.EndsWith("is lost: Synchronize gave LOST (700)", lost.Message, StringComparison.Ordinal);
            Assert.Contains(lost.Device, device.Name, StringComparison.Ordinal);
        }

        Assert.False(ran);
        Assert.Equal(["Synchronize", "Synchronize"], heard.Select(lost => lost.Call));
        arena.Dispose();
        device.Dispose();
    }

    [Theory, InlineData("cpu"), InlineData("separate"), InlineData("paced")]
    public async Task What_waits_and_what_runs_fails_too(string kind)
    {
        using ComputePool pool = ComputePool.ForThisMachine(1);
        using IDevice device = Create(kind, pool);
        using var entered = new ManualResetEventSlim();
        using var free = new ManualResetEventSlim();
        Task running = device.SubmitAsync(_ =>
        {
            entered.Set();
            free.Wait();
        });
        Task waiting = device.SubmitAsync(_ => Assert.Fail("the device was lost before"));
        entered.Wait(TestContext.Current.CancellationToken);
        device.Loss.Report("Synchronize", "Synchronize gave LOST (700)");
        free.Set();

        await Assert.ThrowsAsync<DeviceLostException>(() => running);
        await Assert.ThrowsAsync<DeviceLostException>(() => waiting);
    }

    [Fact]
    public async Task A_fault_that_leaves_the_device_alone_fails_its_own_work_only()
    {
        using ComputePool pool = ComputePool.ForThisMachine(1);
        using IDevice device = Create("cpu", pool);
        Task refused = device.SubmitAsync(_ => throw new KreweException("arena 'x' asked for 9 bytes and holds 0"));
        await Assert.ThrowsAsync<KreweException>(() => refused);
        await device.SubmitAsync(_ => { });
        Assert.False(device.Loss.IsLost);
        Assert.Null(device.Loss.ForCall());
    }

    [Theory]
    [InlineData(LosingMoment.Forward)]
    [InlineData(LosingMoment.ToHost)]
    public async Task The_double_is_lost_in_the_middle_of_a_work(LosingMoment moment)
    {
        using ComputePool pool = ComputePool.ForThisMachine(1);
        using var device = new LosingDevice(new SeparateMemoryDevice(Create("cpu", pool)));
        using Arena arena = device.CreateArena("double");
        using Arena host = device.CreateHostArena("double");
        Tensor here = arena.Allocate(4, 4), there = host.Allocate(4, 4);
        device.LoseAt(moment);
        Task work = device.SubmitAsync(kernels =>
        {
            kernels.Fill(here, 1);
            kernels.Transfer(here, there);
        });
        if (moment == LosingMoment.ToHost)
        {
            Assert.Equal("Synchronize", (await Assert.ThrowsAsync<DeviceLostException>(() => work)).Call);
            return;
        }

        await work;
        Assert.False(device.Loss.IsLost);
    }

    private static IDevice Create(string kind, ComputePool pool) => kind switch
    {
        "reference" => new ReferenceDevice(),
        "separate" => new SeparateMemoryDevice(new CpuDevice(pool, "cpu:0")),
        "paced" => new PacedDevice(new CpuDevice(pool, "cpu:0"), 1e12),
        "losing" => new LosingDevice(new CpuDevice(pool, "cpu:0")),
        _ => new CpuDevice(pool, "cpu:0"),
    };
}
