using System.Runtime.CompilerServices;

namespace Krewe.TestSupport;

/// <summary>
/// Where tests find files: golden data of the repository and, where it is mounted, the shared data beside it.
/// </summary>
public static class TestData
{
    /// <summary>tests/Golden of this repository.</summary>
    public static string GoldenFolder => Path.Combine(RepositoryFolder, "tests", "Golden");

    /// <summary>The folder that holds Orleans.sln.</summary>
    public static string RepositoryFolder { get; } = FindRepository();

    /// <summary>KREWE_SHARED, or the folder <c>shared</c> beside the repository; null where there is neither.</summary>
    public static string? SharedFolder()
    {
        string? named = Environment.GetEnvironmentVariable("KREWE_SHARED");
        string folder = string.IsNullOrEmpty(named) ? Path.Combine(RepositoryFolder, "..", "shared") : named;
        return Directory.Exists(folder) ? Path.GetFullPath(folder) : null;
    }

    private static string FindRepository([CallerFilePath] string thisFile = "")
    {
        foreach (string start in (string[])[AppContext.BaseDirectory, Path.GetDirectoryName(thisFile) ?? ""])
        {
            for (string? folder = start; !string.IsNullOrEmpty(folder); folder = Path.GetDirectoryName(folder))
            {
                if (File.Exists(Path.Combine(folder, "Orleans.sln")))
                {
                    return folder;
                }
            }
        }

        throw new DirectoryNotFoundException($"no Orleans.sln above {AppContext.BaseDirectory}");
    }
}
