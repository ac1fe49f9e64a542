using Krewe.Model;

namespace Krewe.Silo.Commands.Train;

/// <summary>Keeps two processes from writing to one run's folder; takes away folders that it made and nobody filled.</summary>
internal sealed class RunLock : IDisposable
{
    private const string FileName = ".krewe-lock";

    private readonly Stack<string> _created = new();
    private readonly FileStream _file;

    private RunLock(string folder)
    {
        for (string? level = folder; level is not null && !Directory.Exists(level); level = Path.GetDirectoryName(level))
        {
            _created.Push(level);
        }

        Directory.CreateDirectory(folder);
        _file = new(
            Path.Combine(folder, FileName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1,
            FileOptions.DeleteOnClose);
    }

    /// <summary>Takes the folder until the lock is disposed; the system gives it back where the process dies.</summary>
    /// <exception cref="KreweException">Another process has it.</exception>
    public static RunLock Take(string folder)
    {
        try
        {
            return new(folder);
        }
        catch (IOException exception)
        {
            throw new KreweException(
                $"{folder}: another krewe trains here; wait for it, or name another run with --run", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _file.Dispose();
        foreach (string level in _created.Reverse())
        {
            if (Directory.Exists(level) && !Directory.EnumerateFileSystemEntries(level).Any())
            {
                Directory.Delete(level);
            }
        }
    }
}
