using System.Globalization;
using System.Runtime.CompilerServices;
using static Krewe.Model.Data.Chat.TemplateTokenKind;

namespace Krewe.Model.Data.Chat;

/// <content>Operands: literals, names, calls, indices, filters and tests.</content>
internal partial class ExpressionParser
{
    private Expression ParsePrimary()
    {
        TemplateToken token = Advance();
        switch (token.Kind)
        {
            case TemplateTokenKind.String:
                string text = token.Value;
                while (Current.Kind == TemplateTokenKind.String)
                {
                    text += Advance().Value; // Neighbouring literals are one, as in Python.
                }

                return new LiteralExpression(text, token.Position);
            case Integer:
                return new LiteralExpression(
                    long.TryParse(token.Value, out long integer)
                        ? integer
                        : throw new TemplateFault("number too large", token.Position),
                    token.Position);
            case Float:
                return new LiteralExpression(double.Parse(token.Value, CultureInfo.InvariantCulture), token.Position);
            case Name:
                return token.Value switch
                {
                    "true" or "True" => new LiteralExpression(true, token.Position),
                    "false" or "False" => new LiteralExpression(false, token.Position),
                    "none" or "None" => new LiteralExpression(null, token.Position),
                    _ => new NameExpression(token.Value, token.Position),
                };
            case Operator when token.Value == "(":
                Expression inner = Is(")") ? new TupleExpression([], token.Position) : ParseTuple();
                Expect(")");
                return inner;
            case Operator when token.Value == "[":
                return new ListExpression(ParseItems("]", ParseExpression), token.Position);
            case Operator when token.Value == "{":
                return new MappingExpression(ParseItems("}", ParseEntry), token.Position);
            default:
                throw Unexpected("an expression", token);
        }
    }

    private (Expression Key, Expression Value) ParseEntry()
    {
        Expression key = ParseExpression();
        Expect(":");
        return (key, ParseExpression());
    }

    private List<T> ParseItems<T>(string close, Func<T> parse)
    {
        var items = new List<T>();
        while (!Accept(close))
        {
            items.Add(parse());
            if (!Accept(","))
            {
                Expect(close);
                break;
            }
        }

        return items;
    }

    private Expression ParsePostfix(Expression target)
    {
        while (true)
        {
            int position = Current.Position;
            if (Accept("."))
            {
                TemplateToken member = Current.Kind is Name or Integer
                    ? Advance()
                    : throw Unexpected("a member's name");
                object key = member.Kind == Integer ? long.Parse(member.Value) : member.Value;
                target = new MemberExpression(target, new LiteralExpression(key, position), isDotted: true, position);
            }
            else if (Accept("["))
            {
                target = ParseIndex(target, position);
            }
            else if (Accept("("))
            {
                Expression callee = target;
                target = ParseCall(
                    scope => callee.Evaluate(scope) is var value && value is TemplateFunction function
                        ? function
                        : throw new TemplateFault($"{TemplateValue.Describe(value)} cannot be called", position),
                    [], position);
            }
            else
            {
                return target;
            }
        }
    }

    private Expression ParseIndex(Expression target, int position)
    {
        var bounds = new Expression?[3];
        int part = 0;
        while (!Accept("]"))
        {
            if (Accept(":"))
            {
                part++;
            }
            else if (part < 3 && bounds[part] is null)
            {
                bounds[part] = ParseExpression();
            }
            else
            {
                throw Unexpected("']'");
            }
        }

        return part > 0
            ? new SliceExpression(target, bounds, position)
            : new MemberExpression(
                target, bounds[0] ?? throw new TemplateFault("index missing", position), isDotted: false, position);
    }

    /// <summary>The arguments after an opening parenthesis that has been read.</summary>
    private CallExpression ParseCall(
        Func<TemplateScope, TemplateFunction> function, List<Expression> positional, int position)
    {
        var named = new List<(string, Expression)>();
        foreach ((string? name, Expression value) in ParseItems(")", ParseArgument))
        {
            if (name is null)
            {
                positional.Add(value);
            }
            else
            {
                named.Add((name, value));
            }
        }

        return new(function, positional, named, position);
    }

    private (string? Name, Expression Value) ParseArgument()
    {
        if (Current.Kind == Name && tokens[_at + 1] is { Kind: Operator, Value: "=" })
        {
            string name = Advance().Value;
            Advance();
            return (name, ParseExpression());
        }

        return (null, ParseExpression());
    }

    /// <summary>Any number of <c>| filter</c> and <c>is test</c>.</summary>
    private Expression ParseFilters(Expression value)
    {
        while (true)
        {
            int position = Current.Position;
            if (Accept("|"))
            {
                string name = Expect(Name, "a filter's name").Value;
                TemplateFunction filter = TemplateFilters.TryGet(name)
                    ?? throw new TemplateFault($"no filter '{name}'", position);
                value = Accept("(")
                    ? ParseCall(_ => filter, [value], position)
                    : new CallExpression(_ => filter, [value], [], position);
            }
            else if (Accept("is"))
            {
                bool negated = Accept("not");
                Expression test = ParseTest(value, position);
                value = negated
                    ? new OperatorExpression(scope => !TemplateValue.IsTrue(test.Evaluate(scope)), position)
                    : test;
            }
            else if (Is("("))
            {
                value = ParsePostfix(value);
            }
            else
            {
                return value;
            }
        }
    }

    private CallExpression ParseTest(Expression value, int position)
    {
        string name = Expect(Name, "a test's name").Value;
        TemplateFunction test = TemplateTests.TryGet(name) ?? throw new TemplateFault($"no test '{name}'", position);
        if (Accept("("))
        {
            return ParseCall(_ => test, [value], position);
        }

        // An argument may follow without parentheses: "is divisibleby 3".
        bool hasArgument = Current.Kind is TemplateTokenKind.String or Integer or Float || Is("[") || Is("{") ||
            (Current.Kind == Name && Current.Value is not ("else" or "or" or "and" or "is" or "if" or "in" or "not"));
        List<Expression> arguments = hasArgument ? [value, ParsePostfix(ParsePrimary())] : [value];
        return new(_ => test, arguments, [], position);
    }
}
