namespace Krewe.Grains.Devices.Channel;

/// <summary>What tells this machine from others.</summary>
internal static class MachineIdentity
{
    private const string BootIdentity = "/proc/sys/kernel/random/boot_id";

    /// <summary>
    /// The kernel's boot identity where there is one, since host names repeat; else the name of the machine.
    /// </summary>
    public static string Value { get; } =
        File.Exists(BootIdentity) ? File.ReadAllText(BootIdentity).Trim() : Environment.MachineName;
}
