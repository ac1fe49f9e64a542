using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>Arguments lie in memory as C lays them out. No card needed.</summary>
public sealed unsafe class KernelArgumentsTests
{
    [Fact]
    public void Every_argument_keeps_its_bytes()
    {
        KernelArguments arguments = new();
        arguments.Add((byte)7);
        arguments.Add(1.5f);
        arguments.Add((nint)0x1234_5678);
        arguments.Add(new DeviceMatrix(new Tensor(64, new TensorShape(3, 5), rowStride: 8)));
        Assert.Equal(4, arguments.Count);
        Span<nint> addresses = stackalloc nint[KernelArguments.MaxCount];
        fixed (byte* pinned = &arguments.Addresses(addresses))
        {
            Assert.Equal(7, *(byte*)addresses[0]);
            Assert.Equal(1.5f, *(float*)addresses[1]);
            Assert.Equal(0x1234_5678, *(nint*)addresses[2]);
            Assert.Equal(64, *(nint*)addresses[3]);
            Assert.Equal([3, 5, 8], new ReadOnlySpan<int>((int*)(addresses[3] + 8), 3).ToArray());
        }
    }

    [Fact]
    public void Structures_have_the_sizes_of_the_kernels_side()
    {
        Assert.Equal(24, sizeof(DeviceMatrix));
        Assert.Equal(16, sizeof(DeviceStored));
        Assert.Equal(28, sizeof(DeviceAdamWStep));
        Assert.Equal(28, sizeof(DeviceAttention));
        Assert.Equal(16, sizeof(TokenTile));
        Assert.Equal(32, sizeof(DeviceRouting));
        Assert.Equal(88, sizeof(DeviceProduct));
        Assert.Equal(48, sizeof(DeviceQuantized));
        Assert.Equal(6 * 48, sizeof(DeviceSwiGluTiles));
        Assert.Equal(512, sizeof(Krewe.Gpu.Kernels.MatrixProduct.Fp8Product));
        Assert.Equal(64, sizeof(Krewe.Gpu.Kernels.MatrixProduct.PackedOperand));
        Assert.Equal(20, sizeof(Krewe.Gpu.Devices.KernelFault));
        Assert.Equal(128, sizeof(CudaTensorMap));
        Assert.Equal(72, sizeof(Krewe.Gpu.Driver.Native.LaunchAttribute));
        Assert.Equal(56, sizeof(Krewe.Gpu.Driver.Native.LaunchConfig));
        Assert.Equal(88, sizeof(Krewe.Gpu.Driver.Native.MemoryPoolProperties));
        Assert.Equal(96, sizeof(Krewe.Gpu.Driver.Native.CublasLtHeuristic));
    }

    [Fact]
    public void Too_many_are_rejected()
    {
        InvalidOperationException exception = Assert.Throws<InvalidOperationException>(() =>
        {
            KernelArguments arguments = new();
            for (int i = 0; i <= KernelArguments.MaxCount; i++)
            {
                arguments.Add(i);
            }
        });
        Assert.Contains("number 33", exception.Message, StringComparison.Ordinal);
    }
}
