using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>A tensor map that the hardware cannot follow is refused with the reason. No card needed.</summary>
public sealed class CudaTensorMapTests
{
    private static readonly Tensor Good = new(256, new TensorShape(64, 64), DType.BFloat16);

    [Fact]
    public void A_good_one_passes() => CudaTensorMap.Check(Good, 64, 64, TensorMapSwizzle.Bytes128);

    [Fact]
    public void What_the_hardware_cannot_do_is_said()
    {
        Rejected(new(0, default, DType.BFloat16), 8, 8, "a matrix with elements");
        Rejected(new(8, Good.Shape, DType.BFloat16), 8, 8, "an address that 16 divides");
        Rejected(new(256, new TensorShape(4, 4), DType.BFloat16, 12), 4, 8, "16 bytes apart");
        Rejected(Good, 257, 8, "tiles of 1 to 256");
        Rejected(Good, 0, 8, "tiles of 1 to 256");
        Rejected(Good, 8, 4, "a multiple of 16 bytes, got 8 bytes");
        Rejected(Good, 8, 128, "at most 128 bytes for Bytes128", TensorMapSwizzle.Bytes128);
        Rejected(Good, 8, 32, "at most 32 bytes for Bytes32", TensorMapSwizzle.Bytes32);
    }

    private static void Rejected(
        Tensor matrix, int rows, int columns, string reason, TensorMapSwizzle swizzle = TensorMapSwizzle.None)
    {
        ArgumentException exception =
            Assert.Throws<ArgumentException>(() => CudaTensorMap.Check(matrix, rows, columns, swizzle));
        Assert.Contains(reason, exception.Message, StringComparison.Ordinal);
        Assert.StartsWith("tensor map: expected", exception.Message, StringComparison.Ordinal);
    }
}
