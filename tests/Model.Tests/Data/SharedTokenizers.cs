using Krewe.Model.Data;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Data;

/// <summary>The real tokenizers, loaded once; tests that need them are skipped where they are not there.</summary>
internal static class SharedTokenizers
{
    private static readonly Lazy<Tokenizer?> _deepSeekV3 = new(() => Load("tokenizers/deepseek-v3"));
    private static readonly Lazy<Tokenizer?> _docs26M = new(() => Load("checkpoints/docs-26m"));

    public static Tokenizer DeepSeekV3 => OrSkip(_deepSeekV3);

    public static Tokenizer Docs26M => OrSkip(_docs26M);

    public static string Folder(string name)
    {
        string? folder = TestData.SharedFolder();
        Assert.SkipWhen(folder is null || !Directory.Exists(Path.Combine(folder, name)), $"no shared folder with {name}; set KREWE_SHARED");
        return Path.Combine(folder!, name);
    }

    private static Tokenizer OrSkip(Lazy<Tokenizer?> tokenizer)
    {
        Assert.SkipWhen(tokenizer.Value is null, "no shared folder with the tokenizers; set KREWE_SHARED");
        return tokenizer.Value!;
    }

    private static Tokenizer? Load(string name)
    {
        string? shared = TestData.SharedFolder();
        string folder = Path.Combine(shared ?? "", name);
        return shared is not null && Directory.Exists(folder) ? Tokenizer.Load(folder) : null;
    }
}
