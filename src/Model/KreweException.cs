namespace Krewe.Model;

/// <summary>
/// A fault that the user can mend: bad input, a missing file, an impossible configuration. The message is one line that
/// says what is wrong, where, and what to do; the program prints it without a stack trace and exits with code 2. Where that
/// line ends with a colon, lines follow that are shown as they are, such as a compiler's log: then it is no fault of the user.
/// </summary>
public class KreweException : Exception
{
    /// <summary>A fault described by <paramref name="message"/>.</summary>
    public KreweException(string message) : base(message) { }

    /// <summary>A fault described by <paramref name="message"/>, caused by <paramref name="inner"/>.</summary>
    public KreweException(string message, Exception? inner) : base(message, inner) { }
}
