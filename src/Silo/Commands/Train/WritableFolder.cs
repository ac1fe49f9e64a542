using Krewe.Model;

namespace Krewe.Silo.Commands.Train;

/// <summary>Finds out before a run, not after it, whether its checkpoints can be written.</summary>
internal static class WritableFolder
{
    /// <summary>Creates the folder and a file in it, and takes away again what was not there before.</summary>
    /// <exception cref="KreweException">It cannot be done.</exception>
    public static void Ensure(string folder)
    {
        var created = new Stack<string>();
        try
        {
            for (string? level = folder; level is not null && !Directory.Exists(level);
                level = Path.GetDirectoryName(level))
            {
                created.Push(level);
            }

            Directory.CreateDirectory(folder);
            string probe = Path.Combine(folder, $".krewe-probe-{Environment.ProcessId}");
            using (new FileStream(probe, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose))
            {
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"{folder}: cannot be written: {exception.Message}", exception);
        }
        finally
        {
            foreach (string level in created.Reverse().Where(Directory.Exists))
            {
                Directory.Delete(level);
            }
        }
    }
}
