using Krewe.Model.Generation;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>What all blocks of one forward share.</summary>
/// <param name="Layout">Sequences and positions of the rows.</param>
/// <param name="RotaryTable">[positions, ropeDim].</param>
/// <param name="Balance">Balance loss to measure, or null outside training.</param>
/// <param name="Cached">The cache that generation reads and writes, or null.</param>
public sealed record ForwardPass(
    TokenLayout Layout, Tensor RotaryTable, BalanceLossOptions? Balance, CachedPass? Cached = null)
{
    /// <summary>True where the pass is <see cref="RepeatedWork"/> and nothing follows it: halves add to the stream in place.
    /// </summary>
    public bool Repeats { get; init; }
}

/// <summary>What a forward over a latent cache shares.</summary>
/// <param name="Cache">The cache; the pages of the new tokens are taken.</param>
/// <param name="FirstLayer">Layer number of the cache's first entry.</param>
/// <param name="Table">Int32 [S, P]: the pages of the layout's sequences.</param>
/// <param name="Expanded">
/// True where the rows are whole sequences: attention needs no cache then, and takes the expanded form.
/// </param>
public sealed record CachedPass(LatentKvCache Cache, int FirstLayer, Tensor Table, bool Expanded)
{
    /// <summary>The pages of one layer, with the tokens of a layout.</summary>
    public LatentPages PagesOf(int layer, TokenLayout layout) =>
        new(Cache[layer - FirstLayer], Table, layout.SequenceOfToken, layout.Positions);
}
