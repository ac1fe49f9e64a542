using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>Which tensor goes into which shard, in which type. A weight and its scale share a shard.</summary>
internal sealed class CheckpointLayout
{
    private CheckpointLayout(List<List<Item>> shards) => Shards = shards;

    /// <summary>Items per shard, in the order of the model.</summary>
    internal IReadOnlyList<IReadOnlyList<Item>> Shards { get; }

    /// <summary>Bytes of all tensor data.</summary>
    internal long TotalBytes => Shards.Sum(shard => shard.Sum(item => item.ByteCount));

    /// <summary>A tensor to store.</summary>
    /// <param name="Spec">What the model calls it.</param>
    /// <param name="Values">Whose values it holds: itself, or the original of a duplicate.</param>
    /// <param name="Entry">How it is stored.</param>
    /// <param name="Scale">Its scale, where it is FP8.</param>
    internal sealed record Item(TensorSpec Spec, TensorSpec Values, SafetensorsEntry Entry, SafetensorsEntry? Scale)
    {
        internal long ByteCount => Entry.ByteCount + (Scale?.ByteCount ?? 0);
    }

    internal static CheckpointLayout Of(ModelConfig config, CheckpointWriteOptions options)
    {
        List<List<Item>> shards = [[]];
        Dictionary<string, TensorSpec> originals = new(StringComparer.Ordinal);
        long used = 0;
        foreach (TensorSpec spec in DeepSeekNames.Enumerate(config))
        {
            if (spec.Role is TensorRole.Embedding or TensorRole.Head)
            {
                originals.Add(spec.Name, spec);
            }

            if (spec.Role == TensorRole.Duplicate && !options.WriteDuplicates)
            {
                continue;
            }

            Item item = ItemOf(spec, spec.Source is null ? spec : originals[spec.Source], options);
            if (used > 0 && used + item.ByteCount > options.MaxShardBytes)
            {
                shards.Add([]);
                used = 0;
            }

            shards[^1].Add(item);
            used += item.ByteCount;
        }

        return new(shards);
    }

    internal string FileName(int shard) =>
        Shards.Count == 1 ? CheckpointIndex.SingleFileName : CheckpointIndex.ShardName(shard, Shards.Count);

    /// <summary>
    /// Header entries of a shard: larger elements first, so that every tensor is aligned to its type.
    /// </summary>
    internal List<SafetensorsEntry> Entries(int shard) =>
    [
        .. Shards[shard]
            .SelectMany(item => item.Scale is null ? [item.Entry] : new[] { item.Entry, item.Scale })
            .OrderByDescending(entry => entry.DType.SizeInBytes()),
    ];

    internal IEnumerable<KeyValuePair<string, string>> WeightMap() =>
        Shards.SelectMany((_, shard) => Entries(shard)
            .Select(entry => KeyValuePair.Create(entry.Name, FileName(shard))));

    private static Item ItemOf(TensorSpec spec, TensorSpec values, CheckpointWriteOptions options)
    {
        if (options.Fp8 && DeepSeekNames.IsReleasedFp8(spec.Name))
        {
            TensorShape tiles = new(
                TileQuantization.TileCount(spec.Shape.Rows), TileQuantization.TileCount(spec.Shape.Columns));
            return new(
                spec, values, new(spec.Name, DType.Float8E4M3, spec.Shape),
                new(DeepSeekNames.ScaleOf(spec.Name), DType.Float32, tiles));
        }

        DType dtype = spec.Role == TensorRole.RouterBias ? DType.Float32 : options.DType;
        return new(spec, values, new(spec.Name, dtype, spec.Shape), null);
    }
}
