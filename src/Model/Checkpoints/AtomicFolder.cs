using System.Runtime.InteropServices;

namespace Krewe.Model.Checkpoints;

/// <summary>
/// Replaces a whole folder at once. Files go into a hidden sibling; <see cref="Commit"/> flushes them and swaps the
/// folders by renaming, so that a crash at any point leaves the old folder or the new one, never a mixture.
/// </summary>
/// <remarks>
/// <para>Steps of a commit for folder <c>F</c>: all files of <c>.F.krewe-saving</c> are flushed; it is renamed to
/// <c>.F.krewe-new</c>, which says "complete"; <c>F</c>, if there is one, is renamed to <c>.F.krewe-old</c>;
/// <c>.F.krewe-new</c> is renamed to <c>F</c>; the old one is deleted.</para>
/// <para>Only between the last two renames is there no <c>F</c>. <see cref="Recover"/>, which every reader calls, then
/// finishes the swap. Everything in the replaced folder goes, whoever put it there. One writer at a time.</para>
/// </remarks>
public sealed class AtomicFolder : IDisposable
{
    private readonly FileStream _lock;
    private readonly Action<string>? _fault;
    private readonly string _folder;
    private bool _committed;
    private bool _abandoned;

    private AtomicFolder(string folder, FileStream fileLock, Action<string>? fault)
    {
        _folder = folder;
        _lock = fileLock;
        _fault = fault;
    }

    /// <summary>Where to put the files before <see cref="Commit"/>.</summary>
    public string StagingPath => Sibling(_folder, "saving");

    /// <summary>Starts a replacement of <paramref name="folder"/> and removes what a crashed one left behind.</summary>
    /// <exception cref="KreweException">The place is not writable, or another process is saving there.</exception>
    public static AtomicFolder Begin(string folder) => Begin(folder, null);

    /// <summary>
    /// As the other overload, with a hook that a test throws <see cref="SimulatedCrashException"/> from.
    /// </summary>
    internal static AtomicFolder Begin(string folder, Action<string>? fault)
    {
        string target = Resolve(folder);
        FileStream? fileLock = null;
        try
        {
            if (File.Exists(target))
            {
                throw new KreweException($"{folder}: is a file; name a folder");
            }

            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            fileLock = OpenLock(target, folder);
            Recover(target);
            DeleteIfThere(Sibling(target, "saving"));
            DeleteIfThere(Sibling(target, "new"));
            DeleteIfThere(Sibling(target, "old"));
            Directory.CreateDirectory(Sibling(target, "saving"));
            return new(target, fileLock, fault);
        }
        catch (Exception exception)
        {
            fileLock?.Dispose();
            if (exception is IOException or UnauthorizedAccessException)
            {
                throw new KreweException($"{folder}: cannot be written: {exception.Message}", exception);
            }

            throw;
        }
    }

    /// <summary>
    /// Finishes a replacement of <paramref name="folder"/> that died between its two renames. Does nothing while the
    /// folder exists.
    /// </summary>
    public static void Recover(string folder)
    {
        string target = Resolve(folder);
        if (Directory.Exists(target))
        {
            return;
        }

        foreach (string kind in (ReadOnlySpan<string>)["new", "old"])
        {
            string candidate = Sibling(target, kind);
            if (!Directory.Exists(candidate))
            {
                continue;
            }

            try
            {
                Directory.Move(candidate, target);
                return;
            }
            catch (IOException exception)
            {
                // The writer itself, or another reader, may have been quicker.
                if (!Directory.Exists(target))
                {
                    throw new KreweException(
                        $"{folder}: a save was cut off; rename {candidate} to it: {exception.Message}", exception);
                }

                return;
            }
        }
    }

    /// <summary>Makes the staged files the folder.</summary>
    /// <exception cref="IOException">A flush or a rename failed; the old folder is in its place.</exception>
    public void Commit()
    {
        string fresh = Sibling(_folder, "new");
        string old = Sibling(_folder, "old");
        string parent = Path.GetDirectoryName(_folder)!;
        Step("written");
        FlushFiles(StagingPath);
        Step("flushed");
        Directory.Move(StagingPath, fresh);
        FlushDirectory(parent);
        Step("complete");
        if (Directory.Exists(_folder))
        {
            Directory.Move(_folder, old);
            Step("old moved away");
        }

        MoveIntoPlace(fresh);
        FlushDirectory(parent);
        _committed = true;
        Step("new in place");
        TryDelete(old);
        Step("old deleted");
    }

    /// <summary>Without a commit, removes everything that was staged and leaves the folder as it was.</summary>
    public void Dispose()
    {
        if (!_committed && !_abandoned)
        {
            if (!Directory.Exists(_folder) && Directory.Exists(Sibling(_folder, "old")))
            {
                Directory.Move(Sibling(_folder, "old"), _folder);
            }

            TryDelete(StagingPath);
            TryDelete(Sibling(_folder, "new"));
        }

        _lock.Dispose();
    }

    /// <summary>Reports a step to the test hook. A simulated crash leaves the disk as a real one would.</summary>
    internal void Step(string name)
    {
        try
        {
            _fault?.Invoke(name);
        }
        catch (SimulatedCrashException)
        {
            _abandoned = true;
            throw;
        }
    }

    private void MoveIntoPlace(string fresh)
    {
        try
        {
            Directory.Move(fresh, _folder);
        }
        catch (IOException) when (!Directory.Exists(fresh) && Directory.Exists(_folder))
        {
            // A reader that saw the gap finished the swap for us.
        }
    }

    /// <summary>The full path, through a symbolic link: the link stays and its target is replaced.</summary>
    private static string Resolve(string folder)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        if (Path.GetDirectoryName(full) is null)
        {
            throw new KreweException($"{folder}: is the root of a file system; name a folder in it");
        }

        return Directory.Exists(full) && Directory.ResolveLinkTarget(full, true) is { } link ? link.FullName : full;
    }

    private static string Sibling(string folder, string kind) =>
        Path.Combine(Path.GetDirectoryName(folder)!, $".{Path.GetFileName(folder)}.krewe-{kind}");

    private static FileStream OpenLock(string target, string folder)
    {
        try
        {
            return new(
                Sibling(target, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1,
                FileOptions.DeleteOnClose);
        }
        catch (IOException exception) when (File.Exists(Sibling(target, "lock")))
        {
            throw new KreweException($"{folder}: another process is saving there; wait for it", exception);
        }
    }

    private static void DeleteIfThere(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void TryDelete(string folder)
    {
        try
        {
            DeleteIfThere(folder);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Litter, not damage: the next save removes it.
        }
    }

    private static void FlushFiles(string folder)
    {
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite);
            RandomAccess.FlushToDisk(handle);
        }

        foreach (string inner in Directory.EnumerateDirectories(folder, "*", SearchOption.AllDirectories))
        {
            FlushDirectory(inner);
        }

        FlushDirectory(folder);
    }

    /// <summary>
    /// Renames reach the disk with their directory; .NET has no call for that. Best effort elsewhere.
    /// </summary>
    private static void FlushDirectory(string folder)
    {
        if (OperatingSystem.IsLinux() || OperatingSystem.IsMacOS())
        {
            int descriptor = PosixFiles.Open(folder, 0);
            if (descriptor >= 0)
            {
                _ = PosixFiles.Fsync(descriptor);
                _ = PosixFiles.Close(descriptor);
            }
        }
    }
}

/// <summary>Thrown by a test's hook where the process is to die; nothing is cleaned up after it.</summary>
internal sealed class SimulatedCrashException(string step) : Exception($"simulated crash at step '{step}'");

/// <summary>The three calls that make a rename durable.</summary>
internal static partial class PosixFiles
{
    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    internal static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    internal static partial int Close(int descriptor);
}
