using System.Runtime.CompilerServices;
using System.Text;

namespace Krewe.Model.Data.Chat;

/// <summary>A part of a template that writes text or changes variables.</summary>
internal abstract class Statement
{
    public abstract void Render(TemplateScope scope);
}

/// <summary>Leaves a loop's pass; caught by the loop.</summary>
internal sealed class LoopControl(bool isBreak) : Exception
{
    public bool IsBreak => isBreak;
}

internal sealed class BlockStatement(List<Statement> statements) : Statement
{
    public override void Render(TemplateScope scope)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        foreach (Statement statement in statements)
        {
            statement.Render(scope);
        }
    }
}

internal sealed class TextStatement(string text) : Statement
{
    public override void Render(TemplateScope scope) => scope.Output.Append(text);
}

internal sealed class PrintStatement(Expression value) : Statement
{
    public override void Render(TemplateScope scope) =>
        scope.Output.Append(TemplateValue.ToText(value.Evaluate(scope)));
}

internal sealed class IfStatement(List<(Expression? Condition, Statement Body)> branches) : Statement
{
    public override void Render(TemplateScope scope) =>
        branches.Find(branch =>
            branch.Condition is null || TemplateValue.IsTrue(branch.Condition.Evaluate(scope))).Body?.Render(scope);
}

internal sealed class LoopControlStatement(bool isBreak) : Statement
{
    public override void Render(TemplateScope scope) => throw new LoopControl(isBreak);
}

/// <summary><c>set a = value</c>, <c>set a, b = pair</c>, <c>set space.name = value</c>.</summary>
internal sealed class SetStatement(Assignment target, Expression value) : Statement
{
    public override void Render(TemplateScope scope) => target.Assign(scope, value.Evaluate(scope));
}

/// <summary><c>set a</c> ... <c>endset</c>: the text of the body.</summary>
internal sealed class SetBlockStatement(Assignment target, Statement body) : Statement
{
    public override void Render(TemplateScope scope)
    {
        TemplateScope inner = scope.CreateInner(new StringBuilder());
        body.Render(inner);
        target.Assign(scope, inner.Output.ToString());
    }
}

/// <summary>What stands left of an assignment.</summary>
/// <param name="Names">One name, or several that share a list out.</param>
/// <param name="Member">Of a namespace, where one is assigned to.</param>
/// <param name="Position">Offset in the template.</param>
internal sealed record Assignment(List<string> Names, string? Member, int Position)
{
    public void Assign(TemplateScope scope, object? value)
    {
        if (Member is not null)
        {
            if (scope.Get(Names[0]) is not TemplateNamespace space)
            {
                throw new TemplateFault($"'{Names[0]}' is no namespace, so its members cannot be set", Position);
            }

            space[Member] = value;
        }
        else if (Names.Count == 1)
        {
            scope.Set(Names[0], value);
        }
        else
        {
            AssignEach(scope, value);
        }
    }

    private void AssignEach(TemplateScope scope, object? value)
    {
        if (value is not List<object?> values || values.Count != Names.Count)
        {
            throw new TemplateFault($"expected {Names.Count} values, found {TemplateValue.Describe(value)}", Position);
        }

        for (int i = 0; i < values.Count; i++)
        {
            scope.Set(Names[i], values[i]);
        }
    }
}
