using Krewe.Model.Configuration;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Checkpoints;

/// <summary>
/// A model folder in the Hugging Face layout: <c>config.json</c> and <c>model.safetensors</c> or shards with an index.
/// Weights are read straight out of the mapped files into the caller's memory; no second copy is held.
/// </summary>
/// <remarks>Thread-safe for reading. An FP8 weight and its scale may lie in different shards.</remarks>
public sealed class CheckpointReader : IDisposable
{
    private readonly Dictionary<string, (SafetensorsFile File, SafetensorsTensor Tensor)> _tensors;
    private readonly List<SafetensorsFile> _files;
    private readonly int _blockRows;
    private readonly int _blockColumns;

    private CheckpointReader(
        string folder, ModelConfig config, List<SafetensorsFile> files,
        Dictionary<string, (SafetensorsFile File, SafetensorsTensor Tensor)> tensors)
    {
        Folder = folder;
        Config = config;
        _files = files;
        _tensors = tensors;
        int[] block = config.QuantizationConfig?.WeightBlockSize ?? [];
        (_blockRows, _blockColumns) = block is [> 0, > 0] ? (block[0], block[1]) : (128, 128);
    }

    /// <summary>The folder as it was given.</summary>
    public string Folder { get; }

    /// <summary>Its <c>config.json</c>, not yet validated.</summary>
    public ModelConfig Config { get; }

    /// <summary>Names of all stored tensors, scales included.</summary>
    public IReadOnlyCollection<string> Tensors => _tensors.Keys;

    /// <summary>
    /// Opens a folder and maps its files; finishes a save that was cut off between its two renames.
    /// </summary>
    /// <exception cref="KreweException">A file is missing or damaged.</exception>
    public static CheckpointReader Open(string folder)
    {
        AtomicFolder.Recover(folder);
        if (!Directory.Exists(folder))
        {
            throw new KreweException($"{folder}: no such folder; give a folder with config.json and model.safetensors");
        }

        ModelConfig config = ModelConfig.Load(folder);
        Dictionary<string, (SafetensorsFile, SafetensorsTensor)> tensors = new(StringComparer.Ordinal);
        List<SafetensorsFile> files = [];
        try
        {
            if (File.Exists(Path.Combine(folder, CheckpointIndex.SingleFileName)))
            {
                OpenSingle(folder, files, tensors);
            }
            else
            {
                OpenShards(folder, files, tensors);
            }

            return new(folder, config, files, tensors);
        }
        catch
        {
            files.ForEach(file => file.Dispose());
            throw;
        }
    }

    /// <summary>Whether the checkpoint holds <paramref name="name"/>.</summary>
    public bool Contains(string name) => _tensors.ContainsKey(name);

    /// <summary>Stored type and shape of <paramref name="name"/>.</summary>
    /// <exception cref="KreweException">There is no such tensor.</exception>
    public SafetensorsTensor Describe(string name) => Find(name).Tensor;

    /// <summary>Reads a weight as float32; FP8 weights times their block scales.</summary>
    /// <param name="name">Stored name.</param>
    /// <param name="destination">As many elements as the tensor has; overwritten.</param>
    /// <exception cref="KreweException">
    /// No such tensor, a type that is no weight, a missing or misshapen scale.
    /// </exception>
    /// <exception cref="ArgumentException">The destination has another length.</exception>
    public void ReadFloat32(string name, Span<float> destination)
    {
        (SafetensorsFile file, SafetensorsTensor tensor) = Find(name);
        if (destination.Length != tensor.Count)
        {
            throw new ArgumentException($"'{name}' has {tensor.Count} elements, the destination {destination.Length}");
        }

        if (tensor.DType is DType.Float8E4M3 or DType.Float8E5M2)
        {
            ReadFloat8(file, tensor, destination);
        }
        else
        {
            ReadPlain(file, tensor, destination);
        }
    }

    /// <summary>Reads a weight as a new array; see <see cref="ReadFloat32(string, Span{float})"/>.</summary>
    public float[] ReadFloat32(string name)
    {
        float[] values = new float[Describe(name).Count];
        ReadFloat32(name, values);
        return values;
    }

    /// <summary>Compares the stored tensors with those that <paramref name="config"/> asks for.</summary>
    public CheckpointFindings Inspect(ModelConfig config)
    {
        List<string> missing = [];
        List<string> faults = [];
        HashSet<string> known = new(StringComparer.Ordinal);
        int missingMtp = 0;
        foreach (TensorSpec spec in DeepSeekNames.Enumerate(config))
        {
            known.Add(spec.Name);
            known.Add(DeepSeekNames.ScaleOf(spec.Name));
            if (!Contains(spec.Name))
            {
                if (spec.Role != TensorRole.Duplicate)
                {
                    missing.Add(spec.Name);
                    missingMtp += spec.Layer >= config.NumHiddenLayers ? 1 : 0;
                }
            }
            else if (FaultOf(spec) is { } fault)
            {
                faults.Add(fault);
            }
        }

        string[] unexpected = [.. Tensors.Where(name => !known.Contains(name)).Order(StringComparer.Ordinal)];
        return new(missing, faults, unexpected, MtpAloneMissing: missingMtp > 0 && missingMtp == missing.Count);
    }

    /// <summary>Fails unless the checkpoint holds every tensor of <paramref name="config"/> in its shape.</summary>
    /// <returns>The findings, for the names of tensors that will not be used.</returns>
    /// <exception cref="KreweException">One line with the first faults and their number.</exception>
    public CheckpointFindings CheckUp(ModelConfig config)
    {
        CheckpointFindings findings = Inspect(config);
        return findings.Describe() is { } text ? throw new KreweException($"{Folder}: {text}") : findings;
    }

    /// <inheritdoc/>
    public void Dispose() => _files.ForEach(file => file.Dispose());

    private static void OpenSingle(
        string folder, List<SafetensorsFile> files, Dictionary<string, (SafetensorsFile, SafetensorsTensor)> tensors)
    {
        SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, CheckpointIndex.SingleFileName));
        files.Add(file);
        foreach (SafetensorsTensor tensor in file.Tensors)
        {
            tensors.Add(tensor.Name, (file, tensor));
        }
    }

    private static void OpenShards(
        string folder, List<SafetensorsFile> files, Dictionary<string, (SafetensorsFile, SafetensorsTensor)> tensors)
    {
        string indexPath = Path.Combine(folder, CheckpointIndex.FileName);
        if (!File.Exists(indexPath))
        {
            throw new KreweException(
                $"{folder}: holds neither model.safetensors nor {CheckpointIndex.FileName}; fetch the weights");
        }

        Dictionary<string, SafetensorsFile> byShard = new(StringComparer.Ordinal);
        foreach ((string name, string shard) in CheckpointIndex.Load(indexPath))
        {
            if (!byShard.TryGetValue(shard, out SafetensorsFile? file))
            {
                file = SafetensorsFile.Open(Path.Combine(folder, shard));
                files.Add(file);
                byShard.Add(shard, file);
            }

            tensors.Add(name, file.TryGet(name, out SafetensorsTensor tensor)
                ? (file, tensor)
                : throw new KreweException(
                    $"{indexPath}: places '{name}' in {shard}, which lacks it; " +
                    "index and shards are of different saves"));
        }
    }

    private static void ReadPlain(SafetensorsFile file, SafetensorsTensor tensor, Span<float> destination)
    {
        const int chunk = 1 << 24;
        int size = tensor.DType.SizeInBytes();
        for (int start = 0; start < destination.Length; start += chunk)
        {
            int count = Math.Min(chunk, destination.Length - start);
            ReadOnlySpan<byte> bytes = file.Bytes(tensor, (long)start * size, count * size);
            TensorConversion.ToFloat32(tensor.DType, bytes, destination.Slice(start, count));
        }
    }

    private void ReadFloat8(SafetensorsFile file, SafetensorsTensor tensor, Span<float> destination)
    {
        if (ScaleFaultOf(tensor) is { } fault)
        {
            throw new KreweException($"{file.Path}: {fault}");
        }

        (SafetensorsFile scaleFile, SafetensorsTensor scaleTensor) = Find(DeepSeekNames.ScaleOf(tensor.Name));
        float[] scales = new float[scaleTensor.Count];
        ReadPlain(scaleFile, scaleTensor, scales);
        ReadOnlySpan<float> table = tensor.DType == DType.Float8E4M3 ? Float8Format.E4M3Table : Float8Format.E5M2Table;
        TensorShape shape = tensor.Shape;
        TileQuantization.Dequantize(
            file.Bytes(tensor), scales, shape.Rows, shape.Columns, destination, table, _blockRows, _blockColumns);
    }

    private string? FaultOf(TensorSpec spec)
    {
        SafetensorsTensor tensor = Find(spec.Name).Tensor;
        if (!tensor.Dimensions.SequenceEqual(spec.Shape.ToArray()))
        {
            return $"'{spec.Name}' is {tensor.ShapeText}, the config asks for {spec.Shape}";
        }

        return SafetensorsTypes.ToDType(tensor.StoredType) switch
        {
            DType.Float8E4M3 or DType.Float8E5M2 => ScaleFaultOf(tensor),
            DType.Float32 or DType.BFloat16 or DType.Float16 => null,
            _ => $"'{spec.Name}' holds {tensor.StoredType}, which is no weight",
        };
    }

    private string? ScaleFaultOf(SafetensorsTensor tensor)
    {
        string name = DeepSeekNames.ScaleOf(tensor.Name);
        if (!_tensors.TryGetValue(name, out (SafetensorsFile File, SafetensorsTensor Tensor) scale))
        {
            return $"'{tensor.Name}' is {tensor.StoredType} without its '{name}'";
        }

        TensorShape shape = tensor.Shape;
        long[] wanted =
        [
            TileQuantization.TileCount(shape.Rows, _blockRows),
            TileQuantization.TileCount(shape.Columns, _blockColumns),
        ];
        bool fits = scale.Tensor.Dimensions.SequenceEqual(wanted)
            && scale.Tensor.StoredType is "F32" or "BF16" or "F16";
        return fits
            ? null
            : $"'{name}' is {scale.Tensor.StoredType} {scale.Tensor.ShapeText}, blocks of " +
              $"{_blockRows}x{_blockColumns} need F32 [{wanted[0]}, {wanted[1]}]";
    }

    private (SafetensorsFile File, SafetensorsTensor Tensor) Find(string name) =>
        _tensors.TryGetValue(name, out (SafetensorsFile, SafetensorsTensor) found)
            ? found
            : throw new KreweException($"{Folder}: holds no tensor '{name}'");
}
