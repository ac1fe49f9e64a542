using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Training;
using Krewe.TestSupport;

namespace Krewe.Silo.Tests.Commands;

/// <summary>A small sound checkpoint that a test then damages.</summary>
public sealed class SmallCheckpoint : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public SmallCheckpoint(int vocabulary = 264)
    {
        Config = ModelPresets.Get("tiny") with
        {
            VocabSize = vocabulary,
            HiddenSize = 16,
            IntermediateSize = 32,
            MoeIntermediateSize = 8,
            NumHiddenLayers = 2,
            NumAttentionHeads = 2,
            NumKeyValueHeads = 2,
            KvLoraRank = 8,
            QLoraRank = 8,
            QkRopeHeadDim = 8,
            VHeadDim = 8,
            QkNopeHeadDim = 8,
            NRoutedExperts = 8,
            BosTokenId = vocabulary > 257 ? 256 : 0,
            EosTokenId = vocabulary > 257 ? 257 : 1,
        };
        var values = new SeededParameters(1, 0.05);
        CheckpointWriter.Write(
            Path, Config, new(), (spec, destination) => values.Read(spec.Source ?? spec.Name, spec.Shape, destination));
        new ByteTokenizer().Save(Path);
    }

    public ModelConfig Config { get; }

    public string Path => _folder["model"];

    public string Weights => System.IO.Path.Combine(Path, "model.safetensors");

    public string this[string name] => _folder[name];

    /// <summary>Changes the header of the weights.</summary>
    public void EditHeader(Action<JsonObject> edit)
    {
        byte[] bytes = File.ReadAllBytes(Weights);
        int length = checked((int)BinaryPrimitives.ReadInt64LittleEndian(bytes));
        JsonObject header = JsonNode.Parse(Encoding.UTF8.GetString(bytes, 8, length))!.AsObject();
        edit(header);
        byte[] changed = Encoding.UTF8.GetBytes(header.ToJsonString());
        byte[] prefix = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(prefix, changed.Length);
        File.WriteAllBytes(Weights, [.. prefix, .. changed, .. bytes.AsSpan(8 + length)]);
    }

    /// <summary>Changes the config.</summary>
    public void EditConfig(string key, JsonNode value)
    {
        string file = System.IO.Path.Combine(Path, "config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        config[key] = value;
        File.WriteAllText(file, config.ToJsonString());
    }

    /// <summary>Names and sizes of everything below the test's folder.</summary>
    public string[] Listing() => [.. new DirectoryInfo(_folder.Path).EnumerateFileSystemInfos("*", SearchOption.AllDirectories)
        .Select(entry => $"{entry.FullName} {(entry as FileInfo)?.Length}").Order(StringComparer.Ordinal)];

    public void Dispose() => _folder.Dispose();
}
