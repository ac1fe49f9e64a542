using System.Text;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// Cuts a template into text and the tokens within tags, and does Jinja's white-space control: <c>-</c> at a tag's edge
/// strips all white space beside it, <c>trim_blocks</c> drops the line end after a statement or comment,
/// <c>lstrip_blocks</c> the blanks before one that begins its line; <c>+</c> switches the latter two off.
/// </summary>
internal sealed class TemplateLexer
{
    private static readonly string[] _operators =
        ["==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "|", ".", ",", ":", "(", ")", "[", "]",
         "{", "}", "=", "<", ">"];

    private readonly string _source;
    private readonly List<TemplateToken> _tokens = [];
    private int _at;

    private TemplateLexer(string source) => _source = source;

    public static List<TemplateToken> Tokenize(string source)
    {
        var lexer = new TemplateLexer(source);
        lexer.Run();
        return lexer._tokens;
    }

    private void Run()
    {
        bool lineStart = true;
        while (_at < _source.Length)
        {
            int open = FindOpen(_at);
            string text = _source[_at..open];
            int textAt = _at;
            if (open == _source.Length)
            {
                AddText(text, textAt);
                break;
            }

            char kind = _source[open + 1];
            char mark = open + 2 < _source.Length ? _source[open + 2] : '\0';
            if (mark == '-')
            {
                text = text.TrimEnd();
            }
            else if (kind != '{' && mark != '+')
            {
                text = StripLineStart(text, lineStart);
            }

            AddText(text, textAt);
            _at = open + (mark is '-' or '+' ? 3 : 2);
            if (kind == '#')
            {
                int close = _source.IndexOf("#}", _at, StringComparison.Ordinal);
                _at = close < 0 ? throw new TemplateFault("comment without end", open) : close + 2;
                AfterTag(_source[close - 1], trimLineEnd: true);
            }
            else
            {
                ReadTag(open, isStatement: kind == '%');
            }

            lineStart = _source[_at - 1] == '\n';
        }

        _tokens.Add(new(TemplateTokenKind.End, "", _source.Length));
    }

    private int FindOpen(int from)
    {
        for (int i = _source.IndexOf('{', from); i >= 0 && i + 1 < _source.Length; i = _source.IndexOf('{', i + 1))
        {
            if (_source[i + 1] is '{' or '%' or '#')
            {
                return i;
            }
        }

        return _source.Length;
    }

    private static string StripLineStart(string text, bool lineStart)
    {
        int start = text.LastIndexOf('\n') + 1;
        bool onlyBlanks = text.AsSpan(start).Trim(" \t").IsEmpty;
        return onlyBlanks && (start > 0 || lineStart) ? text[..start] : text;
    }

    private void AddText(string text, int position)
    {
        if (text.Length > 0)
        {
            _tokens.Add(new(TemplateTokenKind.Text, text, position));
        }
    }

    private void AfterTag(char mark, bool trimLineEnd)
    {
        if (mark == '-')
        {
            while (_at < _source.Length && char.IsWhiteSpace(_source[_at]))
            {
                _at++;
            }
        }
        else if (trimLineEnd && mark != '+' && _at < _source.Length && _source[_at] == '\n')
        {
            _at++;
        }
    }

    private void ReadTag(int open, bool isStatement)
    {
        string close = isStatement ? "%}" : "}}";
        _tokens.Add(new(isStatement ? TemplateTokenKind.StatementOpen : TemplateTokenKind.PrintOpen, "", open));
        for (int braces = 0; ;)
        {
            while (_at < _source.Length && char.IsWhiteSpace(_source[_at]))
            {
                _at++;
            }

            if (_at >= _source.Length)
            {
                throw new TemplateFault($"tag without '{close}'", open);
            }

            char mark = _source[_at] is '-' or '+' ? _source[_at] : '\0';
            int closeAt = mark == '\0' ? _at : _at + 1;
            if (braces == 0 && string.CompareOrdinal(_source, closeAt, close, 0, 2) == 0)
            {
                TemplateTokenKind kind = isStatement ? TemplateTokenKind.StatementClose : TemplateTokenKind.PrintClose;
                _tokens.Add(new(kind, "", _at));
                _at = closeAt + 2;
                AfterTag(mark, trimLineEnd: isStatement);
                return;
            }

            TemplateToken token = ReadToken();
            braces += token is { Kind: TemplateTokenKind.Operator, Value: "{" } ? 1 : 0;
            braces -= token is { Kind: TemplateTokenKind.Operator, Value: "}" } ? 1 : 0;
            _tokens.Add(token);
        }
    }

    private TemplateToken ReadToken()
    {
        int start = _at;
        char c = _source[start];
        if (c is '\'' or '"')
        {
            return ReadString(c);
        }

        if (char.IsAsciiDigit(c))
        {
            SkipWhile(char.IsAsciiDigit);
            bool isFloat = _at + 1 < _source.Length && _source[_at] == '.' && char.IsAsciiDigit(_source[_at + 1]);
            if (isFloat)
            {
                _at++;
                SkipWhile(char.IsAsciiDigit);
            }

            return new(isFloat ? TemplateTokenKind.Float : TemplateTokenKind.Integer, _source[start.._at], start);
        }

        if (char.IsLetter(c) || c == '_')
        {
            SkipWhile(static character => char.IsLetterOrDigit(character) || character == '_');
            return new(TemplateTokenKind.Name, _source[start.._at], start);
        }

        foreach (string sign in _operators)
        {
            if (string.CompareOrdinal(_source, start, sign, 0, sign.Length) == 0)
            {
                _at += sign.Length;
                return new(TemplateTokenKind.Operator, sign, start);
            }
        }

        throw new TemplateFault($"unexpected '{c}'", start);
    }

    private void SkipWhile(Func<char, bool> belongs)
    {
        while (_at < _source.Length && belongs(_source[_at]))
        {
            _at++;
        }
    }

    private TemplateToken ReadString(char quote)
    {
        int start = _at++;
        var text = new StringBuilder();
        while (_at < _source.Length && _source[_at] != quote)
        {
            char c = _source[_at++];
            if (c != '\\' || _at >= _source.Length)
            {
                text.Append(c);
                continue;
            }

            char escaped = _source[_at++];
            switch (escaped)
            {
                case 'n': text.Append('\n'); break;
                case 't': text.Append('\t'); break;
                case 'r': text.Append('\r'); break;
                case '\n': break;
                case 'u' when _at + 4 <= _source.Length && ushort.TryParse(
                    _source.AsSpan(_at, 4), System.Globalization.NumberStyles.HexNumber, null, out ushort unit):
                    text.Append((char)unit);
                    _at += 4;
                    break;
                case '\\' or '\'' or '"': text.Append(escaped); break;
                default: text.Append('\\').Append(escaped); break; // As Python: an unknown escape stays.
            }
        }

        _at = _at < _source.Length ? _at + 1 : throw new TemplateFault("string without end", start);
        return new(TemplateTokenKind.String, text.ToString(), start);
    }
}
