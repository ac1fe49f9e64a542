using System.Globalization;
using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.MatrixProduct;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>
/// What launches say of a variant is what <c>Shape.cuh</c> lays out for it: the compiler compares the two. Needs NVRTC, but
/// no card.
/// </summary>
public sealed class ProductShapeTests
{
    private const string Assertions = """
        #include "MatrixProduct/Shape.cuh"
        static_assert(krewe::Shape::SharedBytes == KREWE_SHARED_BYTES, "shared memory of a block");
        static_assert(krewe::Shape::Threads == KREWE_THREADS, "threads of a block");
        static_assert(krewe::Shape::PatchRows == KREWE_PATCH_ROWS, "rows of a patch");
        static_assert(krewe::Shape::PatchColumns == KREWE_PATCH_COLUMNS, "columns of a patch");
        extern "C" __global__ void nothing() {}
        """;

    /// <summary>Rows and columns of tiles, stages, scales by row, output: all that sizes depend on.</summary>
    public static TheoryData<int, int, int, bool, Fp8ProductOutput> Fp8Variants =>
    [
        .. Chosen().Concat(Fp8ProductVariant.OfTraining)
            .Select(v => (v.TileRows, v.TileColumns, v.Stages, v.RowScales, v.Output)).Distinct().Order(),
    ];

    /// <summary>Of bfloat16's variants all that there are, in every form.</summary>
    public static TheoryData<int> BFloat16Variants => [.. Enumerable.Range(0, BFloat16.Length)];

    private static BFloat16ProductVariant[] BFloat16 =>
    [
        .. BFloat16ProductVariant.OfTraining,
        .. from form in Enum.GetValues<ProductForm>()
           from accumulate in (bool[])[false, true]
           from tile in ((int Columns, int Stages)[])[(128, 4), (64, 6)]
           select new BFloat16ProductVariant(form, accumulate, 64, tile.Columns, tile.Stages),
    ];

    [Theory]
    [MemberData(nameof(Fp8Variants))]
    public void An_fp8_variant_has_the_sizes_of_the_kernel(
        int rows, int columns, int stages, bool rowScales, Fp8ProductOutput output)
    {
        var variant = new Fp8ProductVariant(Fp8ProductKind.Dense, output, rows, columns, stages, rowScales);
        Compile(
            CompiledFp8Product.File, variant.Options, variant.SharedBytes, variant.Threads,
            Fp8ProductVariant.OutputBoxRows, variant.OutputBoxColumns);
    }

    [Theory]
    [MemberData(nameof(BFloat16Variants))]
    public void A_bfloat16_variant_has_the_sizes_of_the_kernel(int index)
    {
        BFloat16ProductVariant variant = BFloat16[index];
        Compile(
            "MatrixProduct/BFloat16MatrixProduct.cu", [.. variant.Options, "--define-macro=KREWE_BFLOAT16=1"],
            variant.SharedBytes, variant.Threads, BFloat16ProductVariant.ResultBoxRows,
            BFloat16ProductVariant.ResultBoxColumns);
    }

    [Fact]
    public void Another_size_does_not_compile()
    {
        Fp8ProductVariant variant = Fp8ProductVariant.OfTraining[0];
        KernelCompilationException failed = Assert.Throws<KernelCompilationException>(() => Compile(
            CompiledFp8Product.File, variant.Options, variant.SharedBytes - 16, variant.Threads,
            Fp8ProductVariant.OutputBoxRows, variant.OutputBoxColumns));
        Assert.Contains("shared memory of a block", failed.Message, StringComparison.Ordinal);
    }

    /// <summary>What is chosen for sizes of every order.</summary>
    private static IEnumerable<Fp8ProductVariant> Chosen() =>
        from output in Enum.GetValues<Fp8ProductOutput>()
        from rowScales in (bool[])[false, true]
        from rows in (int[])[1, 64, 128, 192, 640, 4096]
        from columns in (int[])[8, 128, 1024, 7168, 65_536]
        select Fp8ProductVariant.Choose(Fp8ProductKind.Dense, output, rowScales, 1, rows, columns, 132);

    private static void Compile(
        string file, IEnumerable<string> options, int sharedBytes, int threads, int patchRows, int patchColumns)
    {
        Assert.SkipWhen(CudaProbe.Run().Nvrtc is null, "needs NVRTC, which this machine has not");
        var source = new KernelSource(
            "Shape.cu", Assertions, KernelSource.Embedded(file).Headers,
            [
                .. options, Define("SHARED_BYTES", sharedBytes), Define("THREADS", threads),
                Define("PATCH_ROWS", patchRows), Define("PATCH_COLUMNS", patchColumns),
            ]);
        _ = new CudaRuntimeCompiler(new(9, 0)).Compile(source);
    }

    private static string Define(string name, int value) =>
        string.Create(CultureInfo.InvariantCulture, $"--define-macro=KREWE_{name}={value}");
}
