using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Interfaces.Training;
using Krewe.Silo.Hosting;
using Orleans.Runtime;

namespace Krewe.Silo.Commands.Cluster;

/// <summary>A silo and what it says of its devices.</summary>
/// <param name="Member">As the membership table has it.</param>
/// <param name="Places">Its devices by number, each a place; none where it gave no answer in time.</param>
internal sealed record SiloReport(SiloMember Member, IReadOnlyList<DeviceStatus> Places);

/// <summary>A run and how far it is.</summary>
/// <param name="Name">Name of the run.</param>
/// <param name="Status">Phase and progress.</param>
internal sealed record RunReport(string Name, RunStatus Status);

/// <summary>The state of a cluster at one moment.</summary>
/// <param name="Silos">Its silos by name.</param>
/// <param name="Grains">Activations by kind of grain, such as expert_host; null where no answer came in time.</param>
/// <param name="Runs">Runs whose grain is active; asking for others would start their grains. Null as above.</param>
internal sealed record ClusterReport(
    IReadOnlyList<SiloReport> Silos, IReadOnlyDictionary<string, int>? Grains, IReadOnlyList<RunReport>? Runs)
{
    private const string KreweGrains = "Krewe.Grains.";
    private const string Suffix = "Grain";
    private const string RunGrain = "krewe.run";

    /// <summary>A silo that hangs is not waited for: the table says what the cluster thinks of it.</summary>
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(5);

    /// <summary>Asks a cluster.</summary>
    /// <param name="cluster">The cluster.</param>
    /// <param name="withDead">Also lists silos that are dead.</param>
    public static async Task<ClusterReport> ReadAsync(ClusterConnection cluster, bool withDead)
    {
        SiloMember[] members = await cluster.MembersAsync(onlyActive: false);
        Task<SiloReport>[] silos = [.. members.Where(member => withDead || member.State != SiloStatus.Dead)
            .Select(member => AskAsync(cluster, member))];
        Task<IReadOnlyDictionary<string, int>?> grains = CountAsync(cluster);
        Task<RunReport[]?> runs = RunsAsync(cluster);
        return new(await Task.WhenAll(silos), await grains, await runs);
    }

    private static async Task<SiloReport> AskAsync(ClusterConnection cluster, SiloMember member) => new(
        member, member.State == SiloStatus.Active ? await InTimeAsync(StatusAsync(cluster, member.Name)) ?? [] : []);

    private static async Task<DeviceStatus[]> StatusAsync(ClusterConnection cluster, string silo)
    {
        PlaceStatus[] places = await cluster.Grains.GetGrain<IDeviceGrain>(silo).PlacesAsync();
        return await Task.WhenAll(
            places.Select(place => cluster.Grains.GetGrain<IDeviceGrain>(place.Name).StatusAsync()));
    }

    private static async Task<IReadOnlyDictionary<string, int>?> CountAsync(ClusterConnection cluster)
    {
        SimpleGrainStatistic[]? counts =
            await InTimeAsync(cluster.Grains.GetGrain<IManagementGrain>(0).GetSimpleGrainStatistics());
        return counts?.Where(count => count.GrainType.StartsWith(KreweGrains, StringComparison.Ordinal))
            .GroupBy(count => KindOf(count.GrainType))
            .OrderBy(kind => kind.Key, StringComparer.Ordinal)
            .ToDictionary(kind => kind.Key, kind => kind.Sum(count => count.ActivationCount));
    }

    private static async Task<RunReport[]?> RunsAsync(ClusterConnection cluster)
    {
        List<GrainId>? active = await InTimeAsync(
            cluster.Grains.GetGrain<IManagementGrain>(0).GetActiveGrains(GrainType.Create(RunGrain)).AsTask());
        if (active is null)
        {
            return null;
        }

        string[] names = [.. active.Select(grain => grain.Key.ToString()!).Distinct().Order(StringComparer.Ordinal)];
        var runs = new List<RunReport>();
        foreach (string name in names)
        {
            if (await InTimeAsync(cluster.Grains.GetGrain<ITrainingRunGrain>(name).StatusAsync()) is { } status)
            {
                runs.Add(new(name, status));
            }
        }

        return [.. runs];
    }

    /// <summary>The answer, or null where none comes: a status that fails because a silo dies would be of no use.</summary>
    private static async Task<T?> InTimeAsync<T>(Task<T> answer) where T : class
    {
        try
        {
            return await answer.WaitAsync(AnswerDeadline);
        }
        catch (Exception exception) when (exception is TimeoutException or OrleansException)
        {
            return null;
        }
    }

    /// <summary>Krewe.Grains.Experts.ExpertHostGrain is an expert_host.</summary>
    private static string KindOf(string type)
    {
        string name = type.Split(',')[0];
        name = name[(name.LastIndexOf('.') + 1)..];
        name = name.EndsWith(Suffix, StringComparison.Ordinal) ? name[..^Suffix.Length] : name;
        return System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName(name);
    }
}
