using Krewe.Model.Tensors;

namespace Krewe.Model.Generation;

/// <summary>
/// The cache of multi-head latent attention for one sequence and a run of layers: per token and layer the normalised
/// latent and the rotated shared key, nothing per head (report 2.1.1).
/// </summary>
public sealed class LatentKvCache : IDisposable
{
    private readonly Arena _arena;
    private readonly Tensor[] _layers;

    /// <summary>Allocates room for <paramref name="capacity"/> tokens.</summary>
    /// <param name="device">Where the cache lives.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="width"><c>kv_lora_rank + qk_rope_head_dim</c>.</param>
    /// <param name="capacity">Largest number of tokens.</param>
    public LatentKvCache(IDevice device, int layers, int width, int capacity)
    {
        _arena = device.CreateArena("latent cache");
        _layers = new Tensor[layers];
        for (int layer = 0; layer < layers; layer++)
        {
            _layers[layer] = _arena.Allocate(capacity, width);
        }

        Capacity = capacity;
    }

    /// <summary>Largest number of tokens.</summary>
    public int Capacity { get; }

    /// <summary>Tokens held: the position of the next one.</summary>
    public int Length { get; private set; }

    /// <summary>[capacity, latent + rope] of one layer, by index within this cache.</summary>
    public Tensor this[int layer] => _layers[layer];

    /// <summary>Notes that <paramref name="tokens"/> more rows were written in every layer.</summary>
    /// <exception cref="InvalidOperationException">The cache is full.</exception>
    public void Advance(int tokens)
    {
        if (Length + tokens > Capacity)
        {
            throw new InvalidOperationException($"the cache holds {Length} of {Capacity} tokens; {tokens} more do not fit");
        }

        Length += tokens;
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();
}
