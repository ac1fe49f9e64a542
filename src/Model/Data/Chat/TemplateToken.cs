namespace Krewe.Model.Data.Chat;

internal enum TemplateTokenKind
{
    Text,
    StatementOpen,
    StatementClose,
    PrintOpen,
    PrintClose,
    Name,
    String,
    Integer,
    Float,
    Operator,
    End,
}

/// <summary>A piece of a template.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Value">Its text; of a string the content, escapes resolved.</param>
/// <param name="Position">Offset in the template.</param>
internal readonly record struct TemplateToken(TemplateTokenKind Kind, string Value, int Position);
