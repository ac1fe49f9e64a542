using System.Text;

namespace Krewe.Model.Data.Chat;

/// <summary>The variables that a statement sees, innermost first, and where its text goes.</summary>
internal sealed class TemplateScope
{
    private readonly Dictionary<string, object?> _values = new(StringComparer.Ordinal);
    private readonly TemplateScope? _outer;
    private readonly IReadOnlyDictionary<string, object?> _globals;

    public TemplateScope(IReadOnlyDictionary<string, object?> globals) => (_globals, Output) = (globals, new());

    private TemplateScope(TemplateScope outer, StringBuilder output) =>
        (_outer, _globals, Output) = (outer, outer._globals, output);

    public StringBuilder Output { get; }

    /// <summary>A scope within this one: of a loop's pass, or with an output of its own.</summary>
    public TemplateScope CreateInner(StringBuilder? output = null) => new(this, output ?? Output);

    public void Set(string name, object? value) => _values[name] = value;

    public object? Get(string name)
    {
        for (TemplateScope? scope = this; scope is not null; scope = scope._outer)
        {
            if (scope._values.TryGetValue(name, out object? value))
            {
                return value;
            }
        }

        return _globals.TryGetValue(name, out object? known) ? known : new TemplateUndefined(name);
    }
}
