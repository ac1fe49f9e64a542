namespace Krewe.Model.Data.Chat;

/// <summary>A call of a function by the assistant.</summary>
/// <param name="Id">Names the call in the tool's answer.</param>
/// <param name="Name">The function.</param>
/// <param name="Arguments">Its arguments as JSON text.</param>
public sealed record ChatToolCall(string Id, string Name, string Arguments);
