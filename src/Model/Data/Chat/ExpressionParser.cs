using System.Globalization;
using System.Runtime.CompilerServices;
using static Krewe.Model.Data.Chat.TemplateTokenKind;

namespace Krewe.Model.Data.Chat;

/// <summary>
/// Parses Jinja expressions by recursive descent, one method for each level of precedence, loosest first.
/// </summary>
internal partial class ExpressionParser(List<TemplateToken> tokens)
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
}
