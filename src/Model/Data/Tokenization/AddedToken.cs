namespace Krewe.Model.Data.Tokenization;

/// <summary>An entry of <c>added_tokens</c>: text that is cut out before anything else looks at it.</summary>
/// <param name="Id">The token's id.</param>
/// <param name="Content">The literal text.</param>
/// <param name="Special">A control token: left out when special tokens are skipped.</param>
/// <param name="Normalized">
/// Looked for after the tokens that are not; without a normaliser that is the only difference.
/// </param>
internal sealed record AddedToken(int Id, string Content, bool Special, bool Normalized);
