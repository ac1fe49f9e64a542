using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <content>Values between the host and the backend's memory.</content>
public abstract unsafe partial class KernelContract
{
    [Theory]
    [InlineData(1)]
    [InlineData(1000)]
    [InlineData(5_000_000)]
    public void Values_travel_there_and_back(int count)
    {
        float[] values = [.. Enumerable.Range(0, count).Select(i => i * 0.5f)];
        using Arena arena = CreateArena();
        Tensor first = arena.Allocate(count), second = arena.Allocate(count), host = _results.Allocate(count);
        float[] read = [];
        Submit(kernels =>
        {
            float[] passing = [.. values];
            kernels.Upload<float>(passing, first);
            // They were taken: what happens to them now does not matter.
            Array.Clear(passing);
            kernels.Write(second, 3f, static (all, value) => all.Fill(value));
            kernels.Add(first, second);
            read = kernels.Read<float>(second).ToArray();
            kernels.Transfer(first, second);
            kernels.Transfer(second, host);
            kernels.Fill(second, 0);
        });
        Assert.Equal(values.Select(value => value + 3), read);
        Assert.Equal(values, host.AsSpan<float>().ToArray());
    }

    [Fact]
    public void Bytes_of_any_type_are_moved()
    {
        using Arena arena = CreateArena();
        Tensor halves = arena.Allocate(2, 3, DType.BFloat16);
        ushort[] read = [];
        Submit(kernels =>
        {
            kernels.Upload<byte>([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 1], halves);
            read = kernels.Read<ushort>(halves).ToArray();
        });
        Assert.Equal([1, 2, 3, 4, 5, 262], read);
    }

    [Fact]
    public void Transfers_of_other_sizes_or_with_gaps_are_rejected()
    {
        AssertRejected("too few", (k, t) => k.Upload<float>([1, 2, 3], t[0]), Data.NormalVector(4));
        AssertRejected("gaps", (k, t) => k.Upload<float>([1, 2, 3, 4], t[0]), Data.Normal(2, 2, gap: 1));
        AssertRejected("other size", (k, t) => k.Transfer(t[0], t[1]), Data.NormalVector(4), Data.NormalVector(5));
        AssertRejected("read gaps", (k, t) => k.Read<float>(t[0]), Data.Normal(2, 2, gap: 1));
    }
}
