using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Krewe.Model.Data.Tokenization;

namespace Krewe.Model.Data;

/// <summary>
/// One token for each byte of UTF-8, then the first and last token of a text: 258 ids, no file, no training. Any string
/// comes back as it went in, lone surrogates included: they are written in the three bytes that UTF-8 would give their
/// code point, which UTF-8 itself forbids.
/// </summary>
public sealed class ByteTokenizer : Tokenizer
{
    private const int Bos = 256;
    private const int Eos = 257;
    private const string BosText = "<｜begin▁of▁sentence｜>";
    private const string EosText = "<｜end▁of▁sentence｜>";
    private const string ChatTemplateText =
        "{{ bos_token }}{% for m in messages %}{% if m['role']=='user' %}<｜User｜>{{ m['content'] }}" +
        "{% elif m['role']=='assistant' %}<｜Assistant｜>{{ m['content'] }}{{ eos_token }}" +
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}";

    private static readonly AddedToken[] _special = [new(Bos, BosText, true, false), new(Eos, EosText, true, false)];
    private static readonly AddedTokenFinder _finder = new(_special);
    private static readonly byte[][] _bytes = CreateBytes();

    /// <inheritdoc/>
    public override string Name => "bytes";

    /// <inheritdoc/>
    public override int VocabularySize => _bytes.Length;

    /// <inheritdoc/>
    public override int? BosId => Bos;

    /// <inheritdoc/>
    public override int? EosId => Eos;

    /// <inheritdoc/>
    public override int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length + 8);
        ReadOnlySpan<char> rest = text;
        while (_finder.TryFind(rest, out int start, out AddedToken? token))
        {
            EncodeText(rest[..start], ids);
            ids.Add(token!.Id);
            rest = rest[(start + token.Content.Length)..];
        }

        EncodeText(rest, ids);
        return [.. ids];
    }

    /// <inheritdoc/>
    public override ReadOnlySpan<byte> GetBytes(int id) => (uint)id < (uint)_bytes.Length ? _bytes[id] : [];

    /// <inheritdoc/>
    public override bool IsSpecial(int id) => id is Bos or Eos;

    /// <inheritdoc/>
    public override string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        ReadOnlySpan<byte> bytes = DecodeBytes(ids, skipSpecialTokens);
        var text = new StringBuilder(bytes.Length);
        for (int from = 0, at = 0; ; at++)
        {
            bool surrogate = at + 2 < bytes.Length && bytes[at] == 0xED && bytes[at + 1] is >= 0xA0 and <= 0xBF &&
                bytes[at + 2] is >= 0x80 and <= 0xBF;
            if (!surrogate && at < bytes.Length)
            {
                continue;
            }

            text.Append(Encoding.UTF8.GetString(bytes[from..at]));
            if (!surrogate)
            {
                return text.ToString();
            }

            text.Append((char)(0xD000 | (bytes[at + 1] & 0x3F) << 6 | bytes[at + 2] & 0x3F));
            at += 2;
            from = at + 1;
        }
    }

    /// <inheritdoc/>
    /// <remarks>A byte-level BPE without merges: Hugging Face's tokenizers loads it and gives the same ids.</remarks>
    public override void Save(string folder)
    {
        JsonNode byteLevel = new JsonObject
        {
            ["type"] = "ByteLevel",
            ["add_prefix_space"] = false,
            ["trim_offsets"] = true,
            ["use_regex"] = false,
        };
        var tokenizer = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray([.. _special.Select(token => new JsonObject
            {
                ["id"] = token.Id,
                ["content"] = token.Content,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = true,
            })]),
            ["normalizer"] = null,
            ["pre_tokenizer"] = byteLevel,
            ["post_processor"] = null,
            ["decoder"] = byteLevel.DeepClone(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = null,
                ["end_of_word_suffix"] = null,
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["ignore_merges"] = false,
                ["vocab"] = new JsonObject(Vocabulary().Select(p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value))),
                ["merges"] = new JsonArray(),
            },
        };
        var config = new JsonObject
        {
            ["tokenizer_class"] = "PreTrainedTokenizerFast",
            ["bos_token"] = BosText,
            ["eos_token"] = EosText,
            ["add_bos_token"] = true,
            ["chat_template"] = ChatTemplateText,
        };
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), tokenizer.ToJsonString(_indented));
        File.WriteAllText(Path.Combine(folder, TokenizerConfig.FileName), config.ToJsonString(_indented));
    }

    /// <summary>Whether a file holds exactly this tokenizer, as <see cref="Save"/> writes it.</summary>
    internal static bool Matches(TokenizerFile file) =>
        file.Merges.Count == 0 && file.AddedTokens.SequenceEqual(_special) &&
        file.Vocabulary.Count == _bytes.Length &&
        Vocabulary().All(entry => file.Vocabulary.TryGetValue(entry.Key, out int id) && id == entry.Value);

    private static readonly JsonSerializerOptions _indented = new() { WriteIndented = true };

    private static void EncodeText(ReadOnlySpan<char> text, List<int> ids)
    {
        Span<byte> utf8 = stackalloc byte[4];
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (c < 0x80)
            {
                ids.Add(c);
            }
            else if (Rune.DecodeFromUtf16(text[i..], out Rune rune, out int used) == OperationStatus.Done)
            {
                foreach (byte b in utf8[..rune.EncodeToUtf8(utf8)])
                {
                    ids.Add(b);
                }

                i += used - 1;
            }
            else
            {
                ids.Add(0xED);
                ids.Add(0x80 | (c >> 6) & 0x3F);
                ids.Add(0x80 | c & 0x3F);
            }
        }
    }

    private static IEnumerable<KeyValuePair<string, int>> Vocabulary() =>
        Enumerable.Range(0, 256)
            .Select(b => KeyValuePair.Create(ByteAlphabet.CharacterOf((byte)b).ToString(), b))
            .Concat(_special.Select(token => KeyValuePair.Create(token.Content, token.Id)));

    private static byte[][] CreateBytes() =>
        [.. Enumerable.Range(0, 256).Select(b => new[] { (byte)b }),
         .. _special.Select(t => Encoding.UTF8.GetBytes(t.Content))];
}
