namespace Krewe.TestSupport;

/// <summary>Where test data lies: golden files in the repository, large files in a folder beside it.</summary>
public static class TestData
{
    /// <summary>tests/Golden of this repository.</summary>
    public static string GoldenFolder { get; } = Path.Combine(RepositoryRoot(), "tests", "Golden");

    /// <summary>
    /// The folder of tokenizers and checkpoints too large for the repository: KREWE_SHARED, or <c>shared</c> beside the
    /// repository; null where there is none, and tests that need it are skipped.
    /// </summary>
    public static string? SharedFolder()
    {
        string? configured = Environment.GetEnvironmentVariable("KREWE_SHARED");
        string folder = string.IsNullOrEmpty(configured)
            ? Path.Combine(Path.GetDirectoryName(RepositoryRoot()) ?? "/", "shared")
            : configured;
        return Directory.Exists(folder) ? folder : null;
    }

    /// <summary>The folder with Orleans.sln, above the test binaries.</summary>
    public static string RepositoryRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Orleans.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"no Orleans.sln above {AppContext.BaseDirectory}");
    }
}
