using System.Text;
using System.Xml;

namespace Krewe.Model.Data.Corpora;

/// <summary>Reads a compiler's XML documentation file as plain text, one text for each member.</summary>
internal sealed class XmlDocumentationReader
{
    private char[] _text = new char[1 << 12];
    private int _length;
    private readonly Dictionary<string, string> _references = new(StringComparer.Ordinal);

    private XmlDocumentationReader() { }

    /// <summary>
    /// The members' texts in the order of the file: the sections joined by blanks, white space collapsed. A file that
    /// is no XML documentation, of which reference packs hold a few, gives what came before the fault.
    /// </summary>
    public static IEnumerable<string> Read(string file) => new XmlDocumentationReader().ReadMembers(file);

    private IEnumerable<string> ReadMembers(string file)
    {
        var settings = new XmlReaderSettings { DtdProcessing = DtdProcessing.Ignore, IgnoreComments = true };
        using XmlReader reader = XmlReader.Create(file, settings);
        while (TryRead(reader))
        {
            if (reader.NodeType == XmlNodeType.Element && reader.Name == "member" && !reader.IsEmptyElement)
            {
                yield return ReadMember(reader);
            }
        }
    }

    private string ReadMember(XmlReader reader)
    {
        _length = 0;
        int depth = reader.Depth;
        while (TryRead(reader) && reader.Depth > depth)
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Text or XmlNodeType.CDATA:
                case XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace:
                    Append(reader.Value);
                    break;
                case XmlNodeType.Element:
                    AppendElement(reader, isSection: reader.Depth == depth + 1);
                    break;
                case XmlNodeType.EndElement when IsBlock(reader.Name):
                    Append(" ");
                    break;
                default:
                    break;
            }
        }

        return new(_text, 0, _length > 0 && _text[_length - 1] == ' ' ? _length - 1 : _length);
    }

    private void AppendElement(XmlReader reader, bool isSection)
    {
        if (isSection || IsBlock(reader.Name))
        {
            Append(" ");
        }

        // A reference with text of its own is read through that text; an empty section such as seealso says nothing.
        if (isSection || !reader.IsEmptyElement)
        {
            return;
        }

        if (reader["cref"] is { } reference)
        {
            Append(Shorten(reference));
        }
        else if ((reader["langword"] ?? reader["name"] ?? reader["href"]) is { } word)
        {
            Append(word);
        }
    }

    private static bool IsBlock(string element) => element is
        "summary" or "param" or "typeparam" or "returns" or "remarks" or "value" or "exception" or
        "example" or "para" or
        "p" or "br" or "list" or "item" or "listheader" or "term" or "description" or "code" or "li" or "ul" or "div";

    /// <summary>Appends with every run of white space as one blank, none at the start.</summary>
    private void Append(string text)
    {
        if (_text.Length < _length + text.Length)
        {
            Array.Resize(ref _text, 2 * (_length + text.Length));
        }

        foreach (char c in text)
        {
            if (!char.IsWhiteSpace(c))
            {
                _text[_length++] = c;
            }
            else if (_length > 0 && _text[_length - 1] != ' ')
            {
                _text[_length++] = ' ';
            }
        }
    }

    /// <summary>
    /// The name that a reader knows: <c>T:System.String</c> is String,
    /// <c>M:System.IO.Path.Join(System.String,System.Int32@)</c> is Join(String, Int32), a constructor has its type's
    /// name. The arity of generics (List`1) stays.
    /// </summary>
    private string Shorten(string reference)
    {
        if (_references.TryGetValue(reference, out string? known))
        {
            return known;
        }

        int colon = reference.IndexOf(':', StringComparison.Ordinal);
        string path = reference[(colon + 1)..];
        int open = path.IndexOf('(', StringComparison.Ordinal);
        string member = open < 0 ? path : path[..open];
        string[] parts = member.Split('.');
        string name = parts[^1] is "#ctor" or "#cctor" && parts.Length > 1 ? parts[^2] : parts[^1];
        string shortened = open < 0 ? name : name + ShortenParameters(path[open..]);
        _references.Add(reference, shortened);
        return shortened;
    }

    private static string ShortenParameters(string parameters)
    {
        var text = new StringBuilder();
        int word = 0;
        foreach (char c in parameters)
        {
            switch (c)
            {
                case '.':
                    text.Length = word; // What came before was a namespace or an outer type.
                    break;
                case '@':
                    break;
                case ',':
                    text.Append(", ");
                    word = text.Length;
                    break;
                default:
                    text.Append(c);
                    word = c is '(' or '{' or '[' ? text.Length : word;
                    break;
            }
        }

        return text.ToString();
    }

    private static bool TryRead(XmlReader reader)
    {
        try
        {
            return reader.Read();
        }
        catch (XmlException)
        {
            return false;
        }
    }
}
