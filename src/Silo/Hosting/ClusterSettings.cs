using System.Net;
using Krewe.Grains.Interfaces;
using Krewe.Model;

namespace Krewe.Silo.Hosting;

/// <summary>How the silos of a cluster find each other.</summary>
public enum MembershipKind
{
    /// <summary>
    /// Through a table in the memory of the first silo: needs no server, but the cluster ends with that silo.
    /// </summary>
    Localhost,

    /// <summary>Through a PostgreSQL database.</summary>
    Postgres,

    /// <summary>Through a Redis server.</summary>
    Redis,
}

/// <summary>Which cluster to join or to connect to, and as whom.</summary>
public sealed record ClusterSettings
{
    /// <summary>Silo port of the first silo of a cluster of kind <see cref="MembershipKind.Localhost"/>.</summary>
    public const int PrimaryPort = 11111;

    /// <summary>Gateway port of that silo.</summary>
    public const int PrimaryGatewayPort = 30000;

    /// <summary>Longest name of a cluster or silo, as the membership tables have room for it.</summary>
    public const int LongestName = 150;

    private static int s_lastSilo;

    /// <summary>Name of the cluster.</summary>
    public required string Cluster { get; init; }

    /// <summary>How its silos find each other.</summary>
    public MembershipKind Membership { get; init; }

    /// <summary>
    /// Connection string of the PostgreSQL or Redis server. May hold a password: never part of a message.
    /// </summary>
    public string? Connection { get; init; }

    /// <summary>Address under which other silos and clients reach this silo; loopback for one machine.</summary>
    public IPAddress Advertise { get; init; } = IPAddress.Loopback;

    /// <summary>Port for silos; 0 for a free one, or for the first silo of localhost, <see cref="PrimaryPort"/>.</summary>
    public int SiloPort { get; init; }

    /// <summary>Port for clients; 0 for a free one, or for that silo, <see cref="PrimaryGatewayPort"/>.</summary>
    public int GatewayPort { get; init; }

    /// <summary>Name of the silo; null for one made of the machine's name and the process's number.</summary>
    public string? Name { get; init; }

    /// <summary>Computing threads of the silo; 0 for one per core.</summary>
    public int CpuThreads { get; init; }

    /// <summary>What the silo computes on: one device or more, each a place of plans.</summary>
    public IReadOnlyList<DeviceName> Devices { get; init; } = [DeviceName.Cpu];

    /// <summary>Folder for the sockets between silos of one machine; null for the temporary folder.</summary>
    public string? Sockets { get; init; }

    /// <summary>
    /// Silo endpoint of the first silo of localhost; null to be the first, or to join the one at the default port.
    /// </summary>
    public IPEndPoint? Join { get; init; }

    /// <summary>Gateway of the first silo of localhost, for clients.</summary>
    public IPEndPoint Gateway { get; init; } = new(IPAddress.Loopback, PrimaryGatewayPort);

    /// <summary>How long a client tries to connect.</summary>
    public TimeSpan ConnectDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The silo's name, or a new one that no other silo has.</summary>
    public string NameOrUnique()
    {
        if (Name is not null)
        {
            return Name;
        }

        string host = string.Concat(Environment.MachineName.Where(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.'));
        int number = Interlocked.Increment(ref s_lastSilo);
        return number == 1 ? $"{host}-{Environment.ProcessId}" : $"{host}-{Environment.ProcessId}-{number}";
    }

    /// <summary>Checks what can be checked without a server.</summary>
    /// <exception cref="KreweException">The settings cannot be used; the message names every fault.</exception>
    public void ThrowIfInvalid()
    {
        string[] faults = [.. Faults()];
        if (faults.Length > 0)
        {
            throw new KreweException(string.Join("; ", faults));
        }
    }

    private IEnumerable<string> Faults()
    {
        foreach ((string what, string? name) in new[] { ("cluster", Cluster), ("silo", Name) })
        {
            if (name is not null && (!GrainKeys.IsName(name) || name.Length > LongestName))
            {
                yield return $"'{name}' cannot name a {what}: use letters, digits and dashes, at most {LongestName}";
            }
        }

        if (Name?.Contains(':', StringComparison.Ordinal) == true)
        {
            yield return
                $"'{Name}' cannot name a silo: '{Name[..Name.LastIndexOf(':')]}:1' would be the second device of a silo";
        }

        if (Membership != MembershipKind.Localhost && string.IsNullOrWhiteSpace(Connection))
        {
            string example = Membership == MembershipKind.Redis ? "127.0.0.1:6379" : "Host=127.0.0.1;Database=krewe;Username=krewe";
            yield return $"membership {ClusterSettingsReader.NameOf(Membership)} needs a connection string: give " +
                $"--connection \"{example}\", or set KREWE__CONNECTION where it holds a password";
        }

        if (Membership != MembershipKind.Localhost && Join is not null)
        {
            yield return $"--join is for membership localhost; with {ClusterSettingsReader.NameOf(Membership)} silos meet on the server";
        }

        if (SiloPort == GatewayPort && SiloPort != 0)
        {
            yield return $"silo port and gateway port are both {SiloPort}: give two ports";
        }
    }
}
