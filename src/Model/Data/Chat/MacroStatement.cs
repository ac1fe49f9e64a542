using System.Text;

namespace Krewe.Model.Data.Chat;

/// <summary><c>macro name(parameters)</c> ... <c>endmacro</c>: a function that returns the text of its body.</summary>
internal sealed class MacroStatement(string name, List<(string Name, Expression? Default)> parameters, Statement body)
    : Statement
{
    public override void Render(TemplateScope scope) => scope.Set(name, (TemplateFunction)(arguments =>
    {
        TemplateScope inner = scope.CreateInner(new StringBuilder());
        for (int i = 0; i < parameters.Count; i++)
        {
            (string parameter, Expression? fallback) = parameters[i];
            bool given = i < arguments.Positional.Count || arguments.Named.ContainsKey(parameter);
            inner.Set(parameter, given
                ? arguments.Get(i, parameter)
                : fallback is null ? new TemplateUndefined(parameter) : fallback.Evaluate(scope));
        }

        body.Render(inner);
        return inner.Output.ToString();
    }));
}
