namespace Krewe.Model.Data.Chat;

/// <summary>
/// <c>for target in items if condition</c> ... <c>else</c> ... <c>endfor</c>; what a pass sets ends with it.
/// </summary>
internal sealed class ForStatement(
    Assignment target, Expression items, Expression? condition, Statement body, Statement? otherwise) : Statement
{
    public override void Render(TemplateScope scope)
    {
        List<object?> values = [.. GetItems(scope)];
        for (int i = 0; i < values.Count; i++)
        {
            TemplateScope pass = scope.CreateInner();
            pass.Set("loop", CreateLoop(values, i));
            target.Assign(pass, values[i]);
            try
            {
                body.Render(pass);
            }
            catch (LoopControl control)
            {
                if (control.IsBreak)
                {
                    return;
                }
            }
        }

        if (values.Count == 0)
        {
            otherwise?.Render(scope);
        }
    }

    private IEnumerable<object?> GetItems(TemplateScope scope)
    {
        object? value = items.Evaluate(scope);
        try
        {
            IEnumerable<object?> all = TemplateValue.Iterate(value);
            return condition is null ? all : all.Where(item =>
            {
                TemplateScope inner = scope.CreateInner();
                target.Assign(inner, item);
                return TemplateValue.IsTrue(condition.Evaluate(inner));
            });
        }
        catch (TemplateFault fault) when (fault.Position < 0)
        {
            fault.Position = items.Position;
            throw;
        }
    }

    private static OrderedDictionary<string, object?> CreateLoop(List<object?> values, int i) => new()
    {
        ["index"] = (long)i + 1,
        ["index0"] = (long)i,
        ["revindex"] = (long)values.Count - i,
        ["revindex0"] = (long)values.Count - i - 1,
        ["first"] = i == 0,
        ["last"] = i == values.Count - 1,
        ["length"] = (long)values.Count,
        ["previtem"] = i > 0 ? values[i - 1] : new TemplateUndefined("loop.previtem"),
        ["nextitem"] = i + 1 < values.Count ? values[i + 1] : new TemplateUndefined("loop.nextitem"),
        ["cycle"] = (TemplateFunction)(a => a.Positional[i % a.Positional.Count]),
    };
}
