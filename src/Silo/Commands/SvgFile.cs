using Krewe.Model;

namespace Krewe.Silo.Commands;

/// <summary>A drawing that the user asked for.</summary>
internal static class SvgFile
{
    /// <summary>Fails where the file cannot be written; what is in it stays.</summary>
    /// <exception cref="KreweException">It cannot.</exception>
    public static void Ensure(string file) => Try(file, () =>
    {
        bool existed = File.Exists(file);
        File.Open(file, FileMode.OpenOrCreate, FileAccess.Write).Dispose();
        if (!existed)
        {
            File.Delete(file);
        }
    });

    /// <summary>Writes the drawing.</summary>
    /// <exception cref="KreweException">It cannot be written.</exception>
    public static void Write(string file, string svg) => Try(file, () => File.WriteAllText(file, svg));

    private static void Try(string file, Action action)
    {
        try
        {
            action();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"{file}: cannot be written: {exception.Message}", exception);
        }
    }
}
