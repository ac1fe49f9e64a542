using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Krewe.Model;
using Microsoft.Extensions.Configuration;

namespace Krewe.Silo.Hosting;

/// <summary>
/// Reads <see cref="ClusterSettings"/> from section <c>Krewe</c> of a settings file, from variables such as
/// <c>KREWE__CONNECTION</c>, and from the command line; a later source wins.
/// </summary>
public static class ClusterSettingsReader
{
    /// <summary>Read from the working directory where no other file is named.</summary>
    public const string DefaultFile = "appsettings.json";

    /// <summary>The setting that names devices.</summary>
    public const string Device = "Device";

    /// <summary>The section of the file, and the prefix of the variables.</summary>
    public const string Section = "Krewe";

    private static readonly string[] _keys =
    [
        nameof(ClusterSettings.Cluster), nameof(ClusterSettings.Membership), nameof(ClusterSettings.Connection),
        nameof(ClusterSettings.Advertise), nameof(ClusterSettings.SiloPort), nameof(ClusterSettings.GatewayPort),
        nameof(ClusterSettings.Name), nameof(ClusterSettings.CpuThreads), nameof(ClusterSettings.Sockets),
        nameof(ClusterSettings.Join), nameof(ClusterSettings.Gateway), Device,
    ];

    /// <summary>Reads and checks the settings.</summary>
    /// <param name="file">A settings file, or null for <see cref="DefaultFile"/> where there is one.</param>
    /// <param name="commandLine">Values by name of the setting; null values are not given.</param>
    /// <exception cref="KreweException">A setting cannot be used; the message says which.</exception>
    public static ClusterSettings Read(string? file, IReadOnlyDictionary<string, string?> commandLine)
    {
        IConfigurationSection section = Load(file, commandLine).GetSection(Section);
        string? unknown = section.GetChildren().Select(child => child.Key)
            .FirstOrDefault(key => !_keys.Contains(key, StringComparer.OrdinalIgnoreCase));
        if (unknown is not null)
        {
            throw new KreweException($"{Section}:{unknown} is no setting; the settings are {string.Join(", ", _keys)}");
        }

        var usual = new ClusterSettings { Cluster = "" };
        var settings = new ClusterSettings
        {
            Cluster = section[nameof(ClusterSettings.Cluster)] is { Length: > 0 } name
                ? name
                : throw new KreweException("no cluster is named: give --cluster NAME, or set KREWE__CLUSTER"),
            Membership = Kind(section[nameof(ClusterSettings.Membership)]),
            Connection = section[nameof(ClusterSettings.Connection)],
            Advertise = Address(section, nameof(ClusterSettings.Advertise)) ?? usual.Advertise,
            SiloPort = Number(section, nameof(ClusterSettings.SiloPort), 65535),
            GatewayPort = Number(section, nameof(ClusterSettings.GatewayPort), 65535),
            Name = section[nameof(ClusterSettings.Name)],
            CpuThreads = Number(section, nameof(ClusterSettings.CpuThreads), 4096),
            Devices = DevicesOf(section),
            Sockets = section[nameof(ClusterSettings.Sockets)],
            Join = Endpoint(section, nameof(ClusterSettings.Join)),
            Gateway = Endpoint(section, nameof(ClusterSettings.Gateway)) ?? usual.Gateway,
        };
        settings.ThrowIfInvalid();
        return settings;
    }

    /// <summary>The name of a kind as the user writes it.</summary>
    public static string NameOf(MembershipKind kind) => kind.ToString().ToLowerInvariant();

    private static IConfigurationRoot Load(string? file, IReadOnlyDictionary<string, string?> commandLine)
    {
        string path = Path.GetFullPath(file ?? DefaultFile);
        if (file is not null && !File.Exists(path))
        {
            throw new KreweException($"{file}: no such settings file");
        }

        try
        {
            return new ConfigurationBuilder()
                .AddJsonFile(path, optional: true, reloadOnChange: false)
                .AddEnvironmentVariables()
                .AddInMemoryCollection(commandLine.Where(pair => pair.Value is not null)
                    .Select(pair => KeyValuePair.Create($"{Section}:{pair.Key}", pair.Value)))
                .Build();
        }
        catch (InvalidDataException exception)
        {
            throw new KreweException(
                $"{file ?? DefaultFile}: cannot be read as JSON: {exception.InnerException?.Message ?? exception.Message}",
                exception);
        }
    }

    private static MembershipKind Kind(string? text)
    {
        MembershipKind[] kinds = Enum.GetValues<MembershipKind>();
        return text is null
            ? MembershipKind.Localhost
            : kinds.Where(kind => string.Equals(NameOf(kind), text, StringComparison.OrdinalIgnoreCase))
                .Cast<MembershipKind?>().FirstOrDefault()
                ?? throw new KreweException($"membership '{text}' is unknown: use {string.Join(", ", kinds.Select(NameOf))}");
    }

    private static DeviceName[] DevicesOf(IConfigurationSection section)
    {
        string? text = section[Device];
        return text is null ? [DeviceName.Cpu]
            : DeviceName.TryParse(text, out DeviceName[] devices) ? devices
            : throw new KreweException(
                $"{Section}:{Device} is '{text}': cpu or cuda:N is wanted, or several with commas between");
    }

    private static int Number(IConfigurationSection section, string key, int most)
    {
        string? text = section[key];
        return text is null ? 0
            : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= most
                ? number
                : throw new KreweException($"{Section}:{key} is '{text}': a whole number from 0 to {most} is wanted");
    }

    private static IPAddress? Address(IConfigurationSection section, string key) =>
        section[key] is { } text ? Resolve(text, $"{Section}:{key}") : null;

    private static IPEndPoint? Endpoint(IConfigurationSection section, string key)
    {
        string? text = section[key];
        if (text is null)
        {
            return null;
        }

        int colon = text.LastIndexOf(':');
        return colon > 0 && int.TryParse(
            text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out int port) && port is > 0 and <= 65535
            ? new(Resolve(text[..colon], $"{Section}:{key}"), port)
            : throw new KreweException($"{Section}:{key} is '{text}': HOST:PORT is wanted, such as 127.0.0.1:11111");
    }

    private static IPAddress Resolve(string host, string what)
    {
        if (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address))
        {
            return address;
        }

        try
        {
            IPAddress[] found = Dns.GetHostAddresses(host);
            return found.FirstOrDefault(a => a.AddressFamily == AddressFamily.InterNetwork) ?? found[0];
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException or IndexOutOfRangeException)
        {
            throw new KreweException($"{what} is '{host}', which is neither an address nor a known host", exception);
        }
    }
}
