using System.CommandLine;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands.Cluster;

/// <summary>Options that name a cluster and say how it is reached; unsaid ones come from file and environment.</summary>
internal class ClusterOptions
{
    /// <summary>Name of the cluster.</summary>
    public Option<string?> Cluster { get; } = Text("--cluster", "NAME", "Name of the cluster");

    /// <summary>Kind of membership.</summary>
    public Option<string?> Membership { get; } = Text(
        "--membership", "localhost|postgres|redis", "Where the cluster's silos meet (default: localhost)");

    /// <summary>Server of the membership.</summary>
    public Option<string?> Connection { get; } = Text(
        "--connection", "STRING", "Connection string of the PostgreSQL or Redis server; with a password, rather set KREWE__CONNECTION");

    /// <summary>Settings file.</summary>
    public Option<string?> Settings { get; } = Text(
        "--settings", "FILE", "Cluster settings, section Krewe (default: appsettings.json where there is one)");

    /// <summary>Gateway of localhost.</summary>
    public Option<string?> Gateway { get; } = Text(
        "--gateway", "HOST:PORT",
        $"Gateway of the first silo of a localhost cluster (default: 127.0.0.1:{ClusterSettings.PrimaryGatewayPort})");

    /// <summary>Adds the options of a client.</summary>
    public virtual void AddTo(Command command)
    {
        foreach (Option option in new Option[] { Cluster, Membership, Connection, Gateway, Settings })
        {
            command.Add(option);
        }
    }

    /// <summary>Reads all sources.</summary>
    public ClusterSettings Read(ParseResult parsed) =>
        ClusterSettingsReader.Read(parsed.GetValue(Settings), ValuesOf(parsed));

    /// <summary>What the command line says, by name of the setting.</summary>
    protected virtual Dictionary<string, string?> ValuesOf(ParseResult parsed) => new()
    {
        [nameof(ClusterSettings.Cluster)] = parsed.GetValue(Cluster),
        [nameof(ClusterSettings.Membership)] = parsed.GetValue(Membership),
        [nameof(ClusterSettings.Connection)] = parsed.GetValue(Connection),
        [nameof(ClusterSettings.Gateway)] = parsed.GetValue(Gateway),
    };

    /// <summary>An option of text.</summary>
    protected static Option<string?> Text(string name, string helpName, string description) => new(name)
    {
        Description = description,
        HelpName = helpName,
    };
}

/// <summary>The options of a silo.</summary>
internal sealed class SiloOptions : ClusterOptions
{
    /// <summary>Name of the silo.</summary>
    public Option<string?> Name { get; } = Text(
        "--name", "NAME", "Name of the silo (default: the machine's name and the process's number)");

    /// <summary>Advertised address.</summary>
    public Option<string?> Advertise { get; } = Text(
        "--advertise", "ADDRESS", "Address of this machine that the other silos reach (default: 127.0.0.1)");

    /// <summary>Port for silos.</summary>
    public Option<int?> SiloPort { get; } = Port(
        "--silo-port", $"Port for other silos (default: a free one; {ClusterSettings.PrimaryPort} for the first of localhost)");

    /// <summary>Port for clients.</summary>
    public Option<int?> GatewayPort { get; } = Port(
        "--gateway-port", $"Port for clients (default: a free one; {ClusterSettings.PrimaryGatewayPort} for the first of localhost)");

    /// <summary>First silo of localhost.</summary>
    public Option<string?> Join { get; } = Text(
        "--join", "HOST:PORT", "Silo port of the first silo of a localhost cluster (default: the usual one on this machine)");

    /// <summary>Threads.</summary>
    public Option<int?> CpuThreads { get; } = new("--cpu-threads")
    {
        Description = "Computing threads of the silo (default: one per core)",
        HelpName = "N",
    };

    /// <summary>Device.</summary>
    public Option<string?> Device { get; } = Text(
        "--device", "cpu|cuda:N",
        "What the silo computes on (default: cpu); several, with commas, are places of their own");

    /// <summary>Folder of sockets.</summary>
    public Option<string?> Sockets { get; } = Text(
        "--sockets", "FOLDER", "Folder for sockets between silos of one machine (default: the temporary folder)");

    /// <inheritdoc/>
    public override void AddTo(Command command)
    {
        foreach (Option option in new Option[]
        {
            Cluster, Name, Membership, Connection, Advertise, SiloPort, GatewayPort, Join, CpuThreads, Device, Sockets, Settings,
        })
        {
            command.Add(option);
        }
    }

    /// <inheritdoc/>
    protected override Dictionary<string, string?> ValuesOf(ParseResult parsed)
    {
        Dictionary<string, string?> values = base.ValuesOf(parsed);
        values[nameof(ClusterSettings.Name)] = parsed.GetValue(Name);
        values[nameof(ClusterSettings.Advertise)] = parsed.GetValue(Advertise);
        values[nameof(ClusterSettings.SiloPort)] = parsed.GetValue(SiloPort)?.ToString();
        values[nameof(ClusterSettings.GatewayPort)] = parsed.GetValue(GatewayPort)?.ToString();
        values[nameof(ClusterSettings.Join)] = parsed.GetValue(Join);
        values[nameof(ClusterSettings.CpuThreads)] = parsed.GetValue(CpuThreads)?.ToString();
        values[ClusterSettingsReader.Device] = parsed.GetValue(Device);
        values[nameof(ClusterSettings.Sockets)] = parsed.GetValue(Sockets);
        return values;
    }

    private static Option<int?> Port(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "PORT",
    };
}
