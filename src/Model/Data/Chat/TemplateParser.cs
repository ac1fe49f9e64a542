using System.Runtime.CompilerServices;
using static Krewe.Model.Data.Chat.TemplateTokenKind;

namespace Krewe.Model.Data.Chat;

/// <summary>Parses the statements of a template.</summary>
internal sealed class TemplateParser(List<TemplateToken> tokens) : ExpressionParser(tokens)
{
    private int _loops;

    public Statement ParseTemplate()
    {
        Statement body = ParseBody([], out _);
        return Current.Kind == End ? body : throw Unexpected("the end of the template");
    }

    /// <summary>Statements up to one of the words in <paramref name="ends"/>, whose tag has been opened.</summary>
    private BlockStatement ParseBody(ReadOnlySpan<string> ends, out string end)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        var statements = new List<Statement>();
        while (true)
        {
            TemplateToken token = Advance();
            switch (token.Kind)
            {
                case Text:
                    statements.Add(new TextStatement(token.Value));
                    break;
                case PrintOpen:
                    statements.Add(new PrintStatement(ParseTuple()));
                    Expect(PrintClose, "'}}'");
                    break;
                case StatementOpen:
                    TemplateToken word = Expect(Name, "a statement's name");
                    if (ends.Contains(word.Value))
                    {
                        end = word.Value;
                        return new(statements);
                    }

                    statements.Add(ParseStatement(word));
                    break;
                default:
                    end = "";
                    return ends.IsEmpty
                        ? new(statements)
                        : throw new TemplateFault($"'{ends[^1]}' missing at the end of the template", token.Position);
            }
        }
    }

    private Statement ParseStatement(TemplateToken word)
    {
        switch (word.Value)
        {
            case "if":
                return ParseIf();
            case "for":
                return ParseFor();
            case "set":
                return ParseSet();
            case "macro":
                return ParseMacro();
            case "break" or "continue" when _loops > 0:
                CloseTag();
                return new LoopControlStatement(word.Value == "break");
            case "generation": // Marks the assistant's tokens for training; the text is that of the body.
                CloseTag();
                return ParseLast("endgeneration");
            default:
                throw new TemplateFault($"statement '{word.Value}' is not known here", word.Position);
        }
    }

    private void CloseTag() => Expect(StatementClose, "'%}'");

    private BlockStatement ParseLast(string end)
    {
        BlockStatement body = ParseBody([end], out _);
        CloseTag();
        return body;
    }

    private IfStatement ParseIf()
    {
        var branches = new List<(Expression?, Statement)>();
        Expression? condition = ParseTuple();
        while (true)
        {
            CloseTag();
            BlockStatement body = condition is null
                ? ParseBody(["endif"], out string end)
                : ParseBody(["elif", "else", "endif"], out end);
            branches.Add((condition, body));
            if (end == "endif")
            {
                CloseTag();
                return new(branches);
            }

            condition = end == "elif" ? ParseTuple() : null;
        }
    }

    private ForStatement ParseFor()
    {
        Assignment target = ParseTarget();
        Expect("in");
        Expression items = ParseOr();
        Expression? condition = Accept("if") ? ParseExpression() : null;
        CloseTag();
        _loops++;
        BlockStatement body = ParseBody(["else", "endfor"], out string end);
        _loops--;
        BlockStatement? otherwise = null;
        if (end == "else")
        {
            CloseTag();
            otherwise = ParseBody(["endfor"], out _);
        }

        CloseTag();
        return new(target, items, condition, body, otherwise);
    }

    private Statement ParseSet()
    {
        Assignment target = ParseTarget();
        if (!Accept("="))
        {
            CloseTag();
            return new SetBlockStatement(target, ParseLast("endset"));
        }

        Expression value = ParseTuple();
        CloseTag();
        return new SetStatement(target, value);
    }

    private Assignment ParseTarget()
    {
        bool parenthesis = Accept("(");
        TemplateToken first = Expect(Name, "a variable's name");
        List<string> names = [first.Value];
        string? member = Accept(".") ? Expect(Name, "a member's name").Value : null;
        while (member is null && Accept(","))
        {
            names.Add(Expect(Name, "a variable's name").Value);
        }

        if (parenthesis)
        {
            Expect(")");
        }

        return new(names, member, first.Position);
    }

    private MacroStatement ParseMacro()
    {
        string name = Expect(Name, "a macro's name").Value;
        Expect("(");
        var parameters = new List<(string, Expression?)>();
        while (!Accept(")"))
        {
            string parameter = Expect(Name, "a parameter's name").Value;
            parameters.Add((parameter, Accept("=") ? ParseExpression() : null));
            if (!Is(")"))
            {
                Expect(",");
            }
        }

        CloseTag();
        (int outer, _loops) = (_loops, 0);
        BlockStatement body = ParseLast("endmacro");
        _loops = outer;
        return new(name, parameters, body);
    }
}
