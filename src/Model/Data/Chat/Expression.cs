using System.Runtime.CompilerServices;

namespace Krewe.Model.Data.Chat;

/// <summary>A part of a template that has a value.</summary>
/// <param name="position">Offset in the template.</param>
internal abstract class Expression(int position)
{
    public int Position { get; } = position;

    public object? Evaluate(TemplateScope scope)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        try
        {
            return Compute(scope);
        }
        catch (TemplateFault fault) when (fault.Position < 0)
        {
            fault.Position = Position;
            throw;
        }
    }

    protected abstract object? Compute(TemplateScope scope);
}

internal sealed class LiteralExpression(object? value, int position) : Expression(position)
{
    protected override object? Compute(TemplateScope scope) => value;
}

internal sealed class NameExpression(string name, int position) : Expression(position)
{
    public string Name => name;

    protected override object? Compute(TemplateScope scope) => scope.Get(name);
}

internal sealed class ListExpression(List<Expression> items, int position) : Expression(position)
{
    protected override object? Compute(TemplateScope scope) => items.Select(item => item.Evaluate(scope)).ToList();
}

internal sealed class TupleExpression(List<Expression> items, int position) : Expression(position)
{
    protected override object? Compute(TemplateScope scope)
    {
        var tuple = new TemplateTuple();
        tuple.AddRange(items.Select(item => item.Evaluate(scope)));
        return tuple;
    }
}

internal sealed class MappingExpression(List<(Expression Key, Expression Value)> entries, int position)
    : Expression(position)
{
    protected override object? Compute(TemplateScope scope)
    {
        var map = new OrderedDictionary<string, object?>();
        foreach ((Expression key, Expression value) in entries)
        {
            map[TemplateValue.ToText(key.Evaluate(scope))] = value.Evaluate(scope);
        }

        return map;
    }
}

/// <summary>An operator with lazy or eager operands; the parser says what it does.</summary>
internal sealed class OperatorExpression(Func<TemplateScope, object?> compute, int position) : Expression(position)
{
    protected override object? Compute(TemplateScope scope) => compute(scope);
}

/// <summary>
/// <c>target.name</c> and <c>target[index]</c>; what is not there is undefined. After a dot a mapping's methods come
/// before its keys, in brackets only keys count, as in Jinja.
/// </summary>
internal sealed class MemberExpression(Expression target, Expression index, bool isDotted, int position)
    : Expression(position)
{
    protected override object? Compute(TemplateScope scope) => Get(target.Evaluate(scope), index.Evaluate(scope));

    private object? Get(object? target, object? index)
    {
        if (isDotted && index is string name && TemplateMethods.TryGet(target, name) is { } method)
        {
            return method;
        }

        switch (target)
        {
            case TemplateUndefined:
                throw new TemplateFault(
                    $"{TemplateValue.Describe(target)}, has no member {TemplateValue.ToText(index)}");
            case OrderedDictionary<string, object?> map when index is string key
                && map.TryGetValue(key, out object? value):
                return value;
            case List<object?> list when index is long at:
                at = at < 0 ? at + list.Count : at;
                return at >= 0 && at < list.Count ? list[(int)at] : new TemplateUndefined($"[{index}]");
            case string text when index is long at:
                List<object?> characters = [.. TemplateValue.Iterate(text)];
                return Get(characters, at);
            default:
                return new TemplateUndefined(TemplateValue.ToText(index));
        }
    }
}

/// <summary><c>target[start:stop:step]</c> with Python's rules for negative and missing bounds.</summary>
internal sealed class SliceExpression(Expression target, Expression?[] bounds, int position) : Expression(position)
{
    protected override object? Compute(TemplateScope scope)
    {
        object? value = target.Evaluate(scope);
        List<object?> items = [.. TemplateValue.Iterate(value)];
        long step = Bound(2) ?? 1;
        if (step == 0)
        {
            throw new TemplateFault("slice step is 0");
        }

        long start = Clamp(Bound(0), step > 0 ? 0 : items.Count - 1);
        long stop = Bound(1) is { } given ? Clamp(given, 0) : step > 0 ? items.Count : -1;
        var slice = new List<object?>();
        for (long i = start; step > 0 ? i < stop : i > stop; i += step)
        {
            slice.Add(items[(int)i]);
        }

        return value is string ? string.Concat(slice) : slice;

        long? Bound(int index) => bounds[index]?.Evaluate(scope) switch
        {
            null => null,
            long number => number,
            object other => throw new TemplateFault(
                $"slice bound must be an integer, not {TemplateValue.Describe(other)}"),
        };

        long Clamp(long? bound, long missing)
        {
            long at = bound is not { } b ? missing : b < 0 ? b + items.Count : b;
            return step > 0 ? Math.Clamp(at, 0, items.Count) : Math.Clamp(at, -1, items.Count - 1);
        }
    }
}

/// <summary>A call of a function, method or macro; with a filter's input as first argument.</summary>
internal sealed class CallExpression(
    Func<TemplateScope, TemplateFunction> function,
    List<Expression> positional,
    List<(string Name, Expression Value)> named,
    int position)
    : Expression(position)
{
    protected override object? Compute(TemplateScope scope)
    {
        TemplateFunction callee = function(scope);
        return callee(new(
            [.. positional.Select(argument => argument.Evaluate(scope))],
            named.ToDictionary(argument => argument.Name, argument => argument.Value.Evaluate(scope))));
    }
}
