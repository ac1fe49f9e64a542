using System.Text.Json;
using Krewe.Model;
using Krewe.Model.Checkpoints;
using Krewe.Model.Configuration;
using Krewe.Model.Data;

namespace Krewe.Silo.Commands;

/// <summary>A checkpoint folder whose config and tensors have been checked, with its tokenizer.</summary>
internal sealed class ModelFolder : IDisposable
{
    private ModelFolder(CheckpointReader reader, ModelConfig config, string? notice)
    {
        Reader = reader;
        Config = config;
        Notice = notice;
    }

    /// <summary>The folder.</summary>
    public string Path => Reader.Folder;

    /// <summary>The open checkpoint.</summary>
    public CheckpointReader Reader { get; }

    /// <summary>A valid config that the tensors agree with.</summary>
    public ModelConfig Config { get; }

    /// <summary>The model as it is loaded.</summary>
    public ModelOrigin Origin => new(Config, Reader);

    /// <summary>Something that the user should know, or null.</summary>
    public string? Notice { get; }

    /// <summary>Opens and checks a folder before any weight is read.</summary>
    /// <exception cref="KreweException">Missing, damaged or contradicting files.</exception>
    public static ModelFolder Open(string path)
    {
        if (RunFolder.Newest(path) is { } newest && !File.Exists(System.IO.Path.Combine(path, "config.json")))
        {
            throw new KreweException($"{path} is the folder of a run: give one of its checkpoints, such as {newest}");
        }

        CheckpointReader reader = CheckpointReader.Open(path);
        try
        {
            ModelConfig config = reader.Config;
            config.ThrowIfInvalid(System.IO.Path.Combine(path, "config.json"));
            CheckpointFindings findings = reader.Inspect(config);
            if (findings.MtpAloneMissing && findings.Faults.Count == 0)
            {
                // transformers drops the MTP modules when it saves; the main model is whole.
                return new(
                    reader, config with { NumNextnPredictLayers = 0 },
                    $"{path}: the MTP tensors are missing; going on with the main model alone");
            }

            return findings.Describe() is { } fault
                ? throw new KreweException($"{path}: {fault}")
                : new(reader, config, null);
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>The tokenizer of the folder, or another one that the user named.</summary>
    /// <exception cref="KreweException">There is none, or it is larger than the vocabulary.</exception>
    public Tokenizer LoadTokenizer(string? path)
    {
        if (path is null && !File.Exists(System.IO.Path.Combine(Path, "tokenizer.json")))
        {
            throw new KreweException($"{Path} has no tokenizer.json: name one with --tokenizer");
        }

        Tokenizer tokenizer = TokenizeCommand.Load(path ?? Path);
        tokenizer.EnsureFits(Config.VocabSize);
        return tokenizer;
    }

    /// <summary>
    /// Whether texts of this model begin with the first token; <c>tokenizer_config.json</c> may deny it.
    /// </summary>
    public bool AddsBos()
    {
        string file = System.IO.Path.Combine(Path, "tokenizer_config.json");
        if (!File.Exists(file))
        {
            return true;
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(file));
            return !(document.RootElement.TryGetProperty("add_bos_token", out JsonElement value)
                && value.ValueKind == JsonValueKind.False);
        }
        catch (JsonException exception)
        {
            throw new KreweException($"{file}: not valid JSON: {exception.Message}", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Reader.Dispose();
}
