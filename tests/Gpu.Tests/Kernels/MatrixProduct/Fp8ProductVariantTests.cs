using Krewe.Gpu.Kernels.MatrixProduct;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>Choice and sizes of the FP8 product's variants; needs no card.</summary>
public sealed class Fp8ProductVariantTests
{
    /// <summary>What a block may have on compute capability 9.0.</summary>
    private const int MaxSharedBytes = 232_448;

    private const int Multiprocessors = 132;

    [Theory]
    [InlineData(4096, 4096, 256, 128)]
    [InlineData(4096, 7168, 256, 128)]
    [InlineData(64, 4096, 64, 32)]
    [InlineData(128, 4096, 64, 64)]
    [InlineData(64, 7168, 64, 64)]
    [InlineData(128, 7168, 64, 128)]
    [InlineData(1, 16384, 64, 128)]
    [InlineData(64, 65536, 64, 128)]
    public void One_product_gets_the_tiles_that_measured_fastest(int rows, int columns, int tileRows, int tileColumns)
    {
        Fp8ProductVariant variant = Choose(Fp8ProductKind.Separate, 1, rows, columns);
        Assert.Equal((tileRows, tileColumns), (variant.TileRows, variant.TileColumns));
    }

    [Fact]
    public void Many_small_groups_get_low_tiles()
    {
        Assert.Equal(128, Choose(Fp8ProductKind.Separate, 32, 128, 4096).TileRows);
        Assert.Equal(256, Choose(Fp8ProductKind.Separate, 8, 4096, 4096).TileRows);
        Assert.Equal(64, Choose(Fp8ProductKind.Separate, 32, 40, 4096).TileRows);
    }

    [Fact]
    public void A_narrow_output_gets_no_block_without_work()
    {
        Assert.Equal(1, Choose(Fp8ProductKind.Separate, 32, 4096, 128).Cluster);
        Assert.Equal(2, Choose(Fp8ProductKind.Separate, 32, 4096, 136).Cluster);
        Assert.Equal(132, Choose(Fp8ProductKind.Separate, 32, 4096, 128).GridBlocks(132, 512));
    }

    [Fact]
    public void Every_choice_fits_into_shared_memory()
    {
        foreach (Fp8ProductKind kind in Enum.GetValues<Fp8ProductKind>())
        {
            foreach (Fp8ProductOutput output in Enum.GetValues<Fp8ProductOutput>())
            {
                foreach (bool rowScales in (bool[])[false, true])
                {
                    foreach (int groups in (int[])[1, 7, 64])
                    {
                        for (int rows = 1; rows < 20_000; rows *= 3)
                        {
                            for (int columns = 8; columns < 20_000; columns *= 3)
                            {
                                Fp8ProductVariant variant = Fp8ProductVariant.Choose(
                                    kind, output, rowScales, groups, rows, columns, Multiprocessors);
                                Assert.InRange(variant.SharedBytes, 1, MaxSharedBytes);
                            }
                        }
                    }
                }
            }
        }
    }

    [Fact]
    public void The_grid_has_no_more_blocks_than_work_or_room()
    {
        Fp8ProductVariant variant = Choose(Fp8ProductKind.Separate, 1, 4096, 4096);
        Assert.Equal(16 * 16, variant.Units(1, 4096, 4096));
        Assert.Equal(132, variant.GridBlocks(66, 256));
        Assert.Equal(6, variant.GridBlocks(66, 3));
    }

    private static Fp8ProductVariant Choose(Fp8ProductKind kind, int groups, int rows, int columns) =>
        Fp8ProductVariant.Choose(kind, Fp8ProductOutput.Float32, false, groups, rows, columns, Multiprocessors);
}
