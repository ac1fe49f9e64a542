using Krewe.Model.Generation;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>What all blocks of one forward share.</summary>
/// <param name="Layout">Sequences and positions of the rows.</param>
/// <param name="RotaryTable">[positions, ropeDim].</param>
/// <param name="Balance">Balance loss to measure, or null outside training.</param>
/// <param name="Cache">Latent cache of the one sequence, or null.</param>
/// <param name="FirstCachedLayer">Layer number of the cache's first entry.</param>
public sealed record ForwardPass(
    TokenLayout Layout, Tensor RotaryTable, BalanceLossOptions? Balance, LatentKvCache? Cache = null,
    int FirstCachedLayer = 0);
