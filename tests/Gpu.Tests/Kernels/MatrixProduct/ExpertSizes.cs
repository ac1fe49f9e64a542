using Krewe.Gpu.Kernels.MatrixProduct;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>
/// Sizes of a layer of experts with which a product of training takes tiles of so many rows: just as many columns as give
/// each multiprocessor one.
/// </summary>
/// <param name="Experts">E; products, or in pairs of gate and up projections twice as many.</param>
/// <param name="Tokens">T.</param>
/// <param name="Rows">Rows of a result: those of an expert in the mean, in weight gradients all.</param>
/// <param name="Columns">Columns of a result.</param>
internal readonly record struct ExpertSizes(int Experts, int Tokens, int Rows, int Columns)
{
    /// <summary>Experts of each token.</summary>
    public const int TopK = 2;

    /// <summary>Inner dimension; in weight gradients it is the tokens of an expert.</summary>
    public const int Depth = 400;

    /// <summary>The rest of a row of tiles that has no columns.</summary>
    private const int Rest = 56;

    /// <summary>The sizes.</summary>
    /// <param name="form">Which product: the forward and weight gradients are of pairs.</param>
    /// <param name="tileRows">Rows of the tiles, 128 or 256.</param>
    /// <param name="units">Pieces of work that the card takes at once.</param>
    /// <param name="unitColumns">Columns of a piece.</param>
    public static ExpertSizes Of(ProductForm form, int tileRows, int units, int unitColumns)
    {
        bool pairs = form != ProductForm.BackwardInput;
        (int experts, int rows) = (pairs, tileRows) switch
        {
            (true, 256) => (4, 488),
            (false, 256) => (8, 248),
            (true, _) => (6, 120),
            (false, _) => (12, 120),
        };
        int tiles = (pairs ? 2 : 1) * experts * ((rows + tileRows - 1) / tileRows);
        int tokens = form == ProductForm.BackwardWeight ? 500 : experts * rows / TopK;
        return new(experts, tokens, rows, (unitColumns * (units / tiles)) - Rest);
    }
}
