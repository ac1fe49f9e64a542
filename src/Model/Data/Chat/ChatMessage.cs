namespace Krewe.Model.Data.Chat;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c> or <c>tool</c>.</param>
/// <param name="Content">The text; null where an assistant only calls tools.</param>
public sealed record ChatMessage(string Role, string? Content)
{
    /// <summary>Tools that the assistant calls; null for none.</summary>
    public IReadOnlyList<ChatToolCall>? ToolCalls { get; init; }

    /// <summary>The call that a tool message answers.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>Name of the speaker or tool, for templates that show it.</summary>
    public string? Name { get; init; }
}
