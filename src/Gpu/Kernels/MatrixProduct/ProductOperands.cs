using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <summary>Which of the three products of a Linear.</summary>
internal enum ProductForm
{
    /// <summary>output = input weight^T.</summary>
    Forward,

    /// <summary>gradInput = gradOutput weight.</summary>
    BackwardInput,

    /// <summary>gradWeight += gradOutput^T input.</summary>
    BackwardWeight,
}

/// <summary>
/// A product as the kernels see it: result[M, N] (+)= left right^T over K. The left operand is stored as [M, K], in
/// weight gradients across K, as [K, M]; the right one as [N, K] in the forward, otherwise across K.
/// </summary>
internal readonly struct ProductOperands
{
    private const int CopiedBytes = 16;

    /// <summary>The operands of a product of this form.</summary>
    public ProductOperands(ProductForm form, in GroupedProduct product)
    {
        Form = form;
        bool weight = form == ProductForm.BackwardWeight;
        Left = weight ? product.Output : product.Input;
        Right = weight ? product.Input : product.Weight;
        Result = weight ? product.Weight : product.Output;
        Gather = product.InputRows;
        Range = product.Range;
        K = form == ProductForm.Forward ? product.Weight.Columns
            : weight ? product.Output.Rows
            : product.Weight.Rows;
        Accumulate = weight || product.Accumulate;
    }

    /// <summary>Which product it is.</summary>
    public ProductForm Form { get; }

    /// <summary>Left operand, before the gather.</summary>
    public Tensor Left { get; init; }

    /// <summary>Right operand, before the gather.</summary>
    public Tensor Right { get; init; }

    /// <summary>[M, N].</summary>
    public Tensor Result { get; }

    /// <summary>Int32: stored rows of the operand that was the Linear's input; or empty.</summary>
    public Tensor Gather { get; init; }

    /// <summary>
    /// Int32 [2] on the device: which rows of the result, or in weight gradients of the inner dimension, are the product's
    /// own; or empty.
    /// </summary>
    public Tensor Range { get; }

    /// <summary>Inner dimension.</summary>
    public int K { get; }

    /// <summary>Adds to the result.</summary>
    public bool Accumulate { get; }

    /// <summary>Whether the left operand is stored with K as its rows.</summary>
    public bool LeftAcross => Form == ProductForm.BackwardWeight;

    /// <summary>Whether the right operand is stored with K as its rows.</summary>
    public bool RightAcross => Form != ProductForm.Forward;

    /// <summary>The operand that the gather is of.</summary>
    public Tensor Gathered => LeftAcross ? Right : Left;

    /// <summary>
    /// Whether the tensor cores can take it as it lies: bfloat16, with rows of all three where bulk copies begin, and
    /// those of the result also end where they end: what a copy writes past a row's last column may be another's.
    /// </summary>
    public bool FitsTensorCores => Left.DType == DType.BFloat16 && K > 0 && IsAligned(Left) && IsAligned(Right)
        && IsAligned(Result) && Result.Columns * Result.DType.SizeInBytes() % CopiedBytes == 0;

    /// <summary>Rows of the result, as far as the host knows them.</summary>
    /// <param name="sharers">Products with ranges that share a result.</param>
    public int LikelyRows(int sharers) =>
        Range.IsEmpty || Form == ProductForm.BackwardWeight ? Result.Rows : (Result.Rows + sharers - 1) / sharers;

    /// <summary>The same product of rows that were brought together.</summary>
    public ProductOperands WithGathered(Tensor rows) => LeftAcross
        ? this with { Right = rows, Gather = default }
        : this with { Left = rows, Gather = default };

    private static bool IsAligned(Tensor tensor) =>
        tensor.Address % CopiedBytes == 0 && tensor.RowStride * (long)tensor.DType.SizeInBytes() % CopiedBytes == 0;
}
