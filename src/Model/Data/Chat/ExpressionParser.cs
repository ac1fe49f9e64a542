using System.Globalization;
using System.Runtime.CompilerServices;
using static Krewe.Model.Data.Chat.TemplateTokenKind;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// Parses Jinja expressions by recursive descent, one method for each level of precedence, loosest first.
/// </summary>
internal class ExpressionParser(List<TemplateToken> tokens)
{
    private int _at;

    protected TemplateToken Current => tokens[_at];

    protected TemplateToken Advance() => tokens[_at == tokens.Count - 1 ? _at : _at++];

    protected bool Is(string text) => Current.Kind is Operator or Name && Current.Value == text;

    protected bool Accept(string text)
    {
        bool found = Is(text);
        _at += found ? 1 : 0;
        return found;
    }

    protected void Expect(string text)
    {
        if (!Accept(text))
        {
            throw Unexpected($"'{text}'");
        }
    }

    protected TemplateToken Expect(TemplateTokenKind kind, string what) =>
        Current.Kind == kind ? Advance() : throw Unexpected(what);

    protected TemplateFault Unexpected(string wanted) => Unexpected(wanted, Current);

    private static TemplateFault Unexpected(string wanted, TemplateToken found) =>
        new($"expected {wanted}, found {(found.Value.Length > 0 ? $"'{found.Value}'" : found.Kind)}", found.Position);

    /// <summary>An expression, or several with commas between, which make a tuple.</summary>
    protected Expression ParseTuple()
    {
        Expression first = ParseExpression();
        if (!Is(","))
        {
            return first;
        }

        List<Expression> items = [first];
        while (Accept(",") && Current.Kind is not (StatementClose or PrintClose) && !Is(")"))
        {
            items.Add(ParseExpression());
        }

        return new TupleExpression(items, first.Position);
    }

    protected Expression ParseExpression()
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        Expression value = ParseOr();
        while (Is("if"))
        {
            int position = Advance().Position;
            Expression chosen = value;
            Expression condition = ParseOr();
            Expression? otherwise = Accept("else") ? ParseExpression() : null;
            value = new OperatorExpression(
                scope => TemplateValue.IsTrue(condition.Evaluate(scope))
                    ? chosen.Evaluate(scope)
                    : otherwise is null ? new TemplateUndefined("the missing else") : otherwise.Evaluate(scope),
                position);
        }

        return value;
    }

    /// <summary>Without the inline if, as a loop's sequence is parsed: its "if" filters the loop.</summary>
    protected Expression ParseOr()
    {
        Expression left = ParseAnd();
        while (Is("or"))
        {
            int position = Advance().Position;
            Expression first = left;
            Expression second = ParseAnd();
            left = new OperatorExpression(
                scope => first.Evaluate(scope) is var value && TemplateValue.IsTrue(value)
                    ? value
                    : second.Evaluate(scope),
                position);
        }

        return left;
    }

    private Expression ParseAnd()
    {
        Expression left = ParseNot();
        while (Is("and"))
        {
            int position = Advance().Position;
            Expression first = left;
            Expression second = ParseNot();
            left = new OperatorExpression(
                scope => first.Evaluate(scope) is var value && TemplateValue.IsTrue(value)
                    ? second.Evaluate(scope)
                    : value,
                position);
        }

        return left;
    }

    private Expression ParseNot()
    {
        if (!Is("not"))
        {
            return ParseComparison();
        }

        RuntimeHelpers.EnsureSufficientExecutionStack();
        int position = Advance().Position;
        Expression operand = ParseNot();
        return new OperatorExpression(scope => !TemplateValue.IsTrue(operand.Evaluate(scope)), position);
    }

    private Expression ParseComparison()
    {
        Expression first = ParseSum();
        var steps = new List<(string Sign, Expression Operand)>();
        int position = Current.Position;
        while (true)
        {
            bool negated = Is("not") && tokens[_at + 1].Value == "in" && Accept("not");
            if (!negated && !(Current.Kind == Operator && Current.Value is "==" or "!=" or "<" or ">" or "<=" or ">=")
                && !Is("in"))
            {
                break;
            }

            string sign = (negated ? "not " : "") + Advance().Value;
            steps.Add((sign, ParseSum()));
        }

        return steps.Count == 0 ? first : new OperatorExpression(scope => CompareChain(scope, first, steps), position);
    }

    // a < b < c holds when each neighbouring pair does, as in Python.
    private static bool CompareChain(
        TemplateScope scope, Expression first, List<(string Sign, Expression Operand)> steps)
    {
        object? left = first.Evaluate(scope);
        foreach ((string sign, Expression operand) in steps)
        {
            object? right = operand.Evaluate(scope);
            if (!TemplateOperators.Compare(sign, left, right))
            {
                return false;
            }

            left = right;
        }

        return true;
    }

    private Expression ParseSum() => ParseBinary(ParseConcatenation, "+", "-");

    private Expression ParseConcatenation() => ParseBinary(ParseProduct, "~");

    private Expression ParseProduct() => ParseBinary(ParsePower, "*", "/", "//", "%");

    private Expression ParsePower() => ParseBinary(ParseUnary, "**");

    private Expression ParseBinary(Func<Expression> parseOperand, params ReadOnlySpan<string> signs)
    {
        Expression left = parseOperand();
        while (Current.Kind == Operator && signs.Contains(Current.Value))
        {
            TemplateToken sign = Advance();
            Expression first = left;
            Expression second = parseOperand();
            left = new OperatorExpression(
                scope => TemplateOperators.Apply(sign.Value, first.Evaluate(scope), second.Evaluate(scope)),
                sign.Position);
        }

        return left;
    }

    private Expression ParseUnary() => ParseFilters(ParseSigned());

    private Expression ParseSigned()
    {
        if (!Is("-") && !Is("+"))
        {
            return ParsePostfix(ParsePrimary());
        }

        RuntimeHelpers.EnsureSufficientExecutionStack();
        TemplateToken sign = Advance();
        Expression operand = ParseSigned();
        return new OperatorExpression(
            scope => TemplateOperators.Apply(sign.Value, 0L, operand.Evaluate(scope)), sign.Position);
    }

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
