using System.Text;
using Krewe.Model.Data.Tokenization;

namespace Krewe.Model.Data;

/// <summary>
/// Text to token ids and back. Implementations are immutable and may be called from any thread. Tokens have a fixed
/// byte sequence each, so a text is decoded by joining bytes; only whole sequences of ids make whole characters, which
/// is why a stream of ids goes through <see cref="StreamingDecoder"/>.
/// </summary>
public abstract class Tokenizer
{
    /// <summary>Name for messages and the board: the folder that it was loaded from, or <c>bytes</c>.</summary>
    public abstract string Name { get; }

    /// <summary>
    /// One more than the largest id; the model's vocabulary must be at least this (<see cref="EnsureFits"/>).
    /// </summary>
    public abstract int VocabularySize { get; }

    /// <summary>Id of the token that opens a text, or null where the tokenizer has none.</summary>
    public abstract int? BosId { get; }

    /// <summary>Id of the token that ends a text, or null where the tokenizer has none.</summary>
    public abstract int? EosId { get; }

    /// <summary>
    /// The ids of <paramref name="text"/>. Special tokens written in the text are recognised; none is added. This is
    /// what Hugging Face's tokenizers does with <c>add_special_tokens=False</c>. A caller that encodes words of
    /// strangers and wants them to stay words must look for special tokens itself.
    /// </summary>
    public abstract int[] Encode(string text);

    /// <summary>
    /// The bytes that one id stands for; empty for an id without a token (models round their vocabulary up).
    /// </summary>
    public abstract ReadOnlySpan<byte> GetBytes(int id);

    /// <summary>Whether the id is a control token, which <c>skipSpecialTokens</c> leaves out.</summary>
    public abstract bool IsSpecial(int id);

    /// <summary>
    /// Writes what <see cref="Load"/> needs to build this tokenizer again, in Hugging Face's file names, so that a
    /// checkpoint folder carries its tokenizer. The folder must exist; files of the same name are overwritten.
    /// </summary>
    public abstract void Save(string folder);

    /// <summary>The joined bytes of <paramref name="ids"/>, which need not be valid UTF-8.</summary>
    public byte[] DecodeBytes(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        var bytes = new List<byte>(ids.Length * 4);
        foreach (int id in ids)
        {
            if (!(skipSpecialTokens && IsSpecial(id)))
            {
                bytes.AddRange(GetBytes(id));
            }
        }

        return [.. bytes];
    }

    /// <summary>The text of <paramref name="ids"/>; bytes that are not UTF-8 become U+FFFD.</summary>
    public virtual string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false) =>
        Encoding.UTF8.GetString(DecodeBytes(ids, skipSpecialTokens));

    /// <summary>A decoder for ids that come one at a time.</summary>
    public StreamingDecoder CreateStreamingDecoder(bool skipSpecialTokens = true) => new(this, skipSpecialTokens);

    /// <summary>
    /// Checks that every id of this tokenizer is an id of a model with <paramref name="vocabSize"/> rows.
    /// </summary>
    /// <exception cref="KreweException">The tokenizer has more ids than the model.</exception>
    public void EnsureFits(int vocabSize)
    {
        if (VocabularySize > vocabSize)
        {
            throw new KreweException(
                $"tokenizer '{Name}' has ids up to {VocabularySize - 1}, the model's vocab_size is {vocabSize}; " +
                $"choose a smaller tokenizer or set vocab_size to at least {VocabularySize}");
        }
    }

    /// <summary>
    /// Loads a <c>tokenizer.json</c>, given as the file or as the folder that holds it. The names of the first and last
    /// token come from <c>tokenizer_config.json</c> beside it, where there is one.
    /// </summary>
    /// <exception cref="KreweException">
    /// No such file, broken JSON, or a kind of tokenizer that Krewe does not know.
    /// </exception>
    public static Tokenizer Load(string path)
    {
        TokenizerFile file = TokenizerFile.Read(path);
        return ByteTokenizer.Matches(file) ? new ByteTokenizer() : new BytePairTokenizer(file);
    }
}
