using System.Buffers;
using System.Runtime.InteropServices;
using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>Fills <paramref name="destination"/> with the values of <paramref name="tensor"/>.</summary>
public delegate void TensorFiller(TensorSpec tensor, Span<float> destination);

/// <summary>Fetches the values of <paramref name="tensor"/>; the memory may be used again at the next call.</summary>
public delegate ValueTask<ReadOnlyMemory<float>> TensorSource(TensorSpec tensor, CancellationToken cancellation);

/// <summary>
/// Writes a model folder in the Hugging Face layout, one tensor at a time and all or nothing: see
/// <see cref="AtomicFolder"/>. An existing checkpoint of that name is replaced with everything in its folder.
/// </summary>
public static class CheckpointWriter
{
    private const int ChunkElements = 1 << 18;

    /// <summary>Writes a model whose values are at hand.</summary>
    /// <param name="folder">Where the checkpoint shall be.</param>
    /// <param name="config">
    /// A valid config; its <c>torch_dtype</c> and <c>quantization_config</c> follow the options.
    /// </param>
    /// <param name="options">Types, shard size, further files.</param>
    /// <param name="fill">
    /// Asked once per stored tensor, in model order; for an MTP copy it is asked for the original.
    /// </param>
    /// <exception cref="KreweException">
    /// The config is unsound, a file to copy is missing, the place is not writable.
    /// </exception>
    public static void Write(string folder, ModelConfig config, CheckpointWriteOptions options, TensorFiller fill)
    {
        float[] buffer = [];
        ValueTask<ReadOnlyMemory<float>> Source(TensorSpec tensor, CancellationToken cancellation)
        {
            int count = checked((int)tensor.Shape.Count);
            if (buffer.Length < count)
            {
                buffer = new float[count];
            }

            fill(tensor, buffer.AsSpan(0, count));
            return new(buffer.AsMemory(0, count));
        }

        // The source never waits, so neither does the task.
        WriteAsync(folder, config, options, Source).GetAwaiter().GetResult();
    }

    /// <summary>
    /// Writes a model whose values come from elsewhere, such as the silos of a cluster. Conversion and disk writes run
    /// on the caller's thread: not in a grain's turn.
    /// </summary>
    /// <inheritdoc cref="Write"/>
    /// <param name="folder">Where the checkpoint shall be.</param>
    /// <param name="config">
    /// A valid config; its <c>torch_dtype</c> and <c>quantization_config</c> follow the options.
    /// </param>
    /// <param name="options">Types, shard size, further files.</param>
    /// <param name="source">
    /// Asked once per stored tensor, in model order; for an MTP copy it is asked for the original.
    /// </param>
    /// <param name="cancellation">Gives up and leaves the old checkpoint as it was.</param>
    public static async Task WriteAsync(
        string folder, ModelConfig config, CheckpointWriteOptions options, TensorSource source,
        CancellationToken cancellation = default)
    {
        config.ThrowIfInvalid(folder);
        RequireSound(folder, options);
        CheckpointLayout layout = CheckpointLayout.Of(config, options);
        using AtomicFolder target = AtomicFolder.Begin(folder, options.Fault);
        try
        {
            string staging = target.StagingPath;
            for (int shard = 0; shard < layout.Shards.Count; shard++)
            {
                string path = Path.Combine(staging, layout.FileName(shard));
                await WriteShardAsync(path, layout, shard, options, source, cancellation).ConfigureAwait(false);
                target.Step($"shard {shard}");
            }

            WriteSmallFiles(staging, layout, config, options);
            if (options.AddFiles is not null)
            {
                await options.AddFiles(staging, cancellation).ConfigureAwait(false);
            }

            cancellation.ThrowIfCancellationRequested();
            target.Commit();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException(
                $"{folder}: cannot be written, nothing was changed: {exception.Message}", exception);
        }
    }

    private static void RequireSound(string folder, CheckpointWriteOptions options)
    {
        if (options.DType is not (DType.BFloat16 or DType.Float32))
        {
            throw new KreweException(
                $"weights cannot be saved as {options.DType}; BFloat16 or Float32, with or without Fp8");
        }

        if (options.MaxShardBytes <= 0)
        {
            throw new KreweException($"a shard of {options.MaxShardBytes} bytes holds nothing; give a positive size");
        }

        foreach (string file in options.ExtraFiles)
        {
            if (!File.Exists(file))
            {
                throw new KreweException($"{file}: no such file; it was to be copied into {folder}");
            }
        }

        bool isOther = Directory.Exists(folder) && !File.Exists(Path.Combine(folder, "config.json"))
            && Directory.EnumerateFileSystemEntries(folder).Any();
        if (isOther)
        {
            throw new KreweException(
                $"{folder}: holds files but no checkpoint, and would be replaced; choose another folder");
        }
    }

    private static async Task WriteShardAsync(
        string path, CheckpointLayout layout, int shard, CheckpointWriteOptions options, TensorSource source,
        CancellationToken cancellation)
    {
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, layout.Entries(shard));
        foreach (CheckpointLayout.Item item in layout.Shards[shard])
        {
            cancellation.ThrowIfCancellationRequested();
            ReadOnlyMemory<float> values = await source(item.Values, cancellation).ConfigureAwait(false);
            if (values.Length != item.Spec.Shape.Count)
            {
                throw new ArgumentException(
                    $"'{item.Values.Name}' is {item.Spec.Shape}: {item.Spec.Shape.Count} values wanted, " +
                    $"{values.Length} given");
            }

            if (item.Scale is null)
            {
                WritePlain(writer, item.Entry, values.Span);
            }
            else
            {
                WriteFloat8(writer, item.Entry, item.Scale, values.Span, options.PowerOfTwoScales);
            }
        }

        writer.Finish();
    }

    private static void WritePlain(SafetensorsWriter writer, SafetensorsEntry entry, ReadOnlySpan<float> values)
    {
        int size = entry.DType.SizeInBytes();
        byte[] bytes = ArrayPool<byte>.Shared.Rent(ChunkElements * size);
        for (int start = 0; start < values.Length; start += ChunkElements)
        {
            int count = Math.Min(ChunkElements, values.Length - start);
            Span<byte> chunk = bytes.AsSpan(0, count * size);
            TensorConversion.FromFloat32(entry.DType, values.Slice(start, count), chunk);
            writer.Append(entry.Name, chunk);
        }

        ArrayPool<byte>.Shared.Return(bytes);
    }

    private static void WriteFloat8(
        SafetensorsWriter writer, SafetensorsEntry entry, SafetensorsEntry scale, ReadOnlySpan<float> values,
        bool powerOfTwo)
    {
        int columns = entry.Shape.Columns;
        int band = TileQuantization.TileSize;
        byte[] codes = ArrayPool<byte>.Shared.Rent(band * columns);
        float[] scales = new float[scale.Shape.Columns];
        for (int row = 0; row < entry.Shape.Rows; row += band)
        {
            int rows = Math.Min(band, entry.Shape.Rows - row);
            Span<byte> chunk = codes.AsSpan(0, rows * columns);
            TileQuantization.QuantizeBlocks(
                values.Slice(row * columns, rows * columns), rows, columns, chunk, scales, powerOfTwo);
            writer.Append(entry.Name, chunk);
            writer.Append(scale.Name, MemoryMarshal.AsBytes<float>(scales));
        }

        ArrayPool<byte>.Shared.Return(codes);
    }

    private static void WriteSmallFiles(
        string staging, CheckpointLayout layout, ModelConfig config, CheckpointWriteOptions options)
    {
        QuantizationConfig? quantization =
            options.Fp8 ? new() { ScaleFmt = options.PowerOfTwoScales ? "ue8m0" : null } : null;
        ModelConfig stored = config with
        {
            TorchDtype = options.DType == DType.BFloat16 ? "bfloat16" : "float32",
            QuantizationConfig = quantization,
        };
        stored.Save(staging);
        if (layout.Shards.Count > 1)
        {
            string index = CheckpointIndex.Write(layout.WeightMap(), layout.TotalBytes);
            File.WriteAllText(Path.Combine(staging, CheckpointIndex.FileName), index);
        }

        foreach (string file in options.ExtraFiles)
        {
            // Not File.Copy, which would carry a read-only bit along and keep the file from being flushed.
            using FileStream from = File.OpenRead(file);
            using FileStream to = new(Path.Combine(staging, Path.GetFileName(file)), FileMode.CreateNew);
            from.CopyTo(to);
        }
    }
}
