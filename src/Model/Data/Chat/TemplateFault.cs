namespace Krewe.Model.Data.Chat;

/// <summary>A fault in a template. The innermost node that sees it gives it its place.</summary>
/// <param name="message">What is wrong.</param>
/// <param name="position">Offset in the template, or -1 until known.</param>
internal sealed class TemplateFault(string message, int position = -1) : Exception(message)
{
    public int Position { get; set; } = position;
}
