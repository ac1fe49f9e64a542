using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Messaging;

namespace Krewe.Silo.Hosting;

/// <summary>
/// A list of one gateway, so that a client knows through which silo all its calls go. When that silo is gone, by the
/// word of the cluster or because nobody listens there any more, the list changes to another one, and calls in flight
/// fail (<see cref="SiloLoss"/>).
/// </summary>
/// <param name="all">All gateways of the cluster.</param>
/// <param name="loss">Told when the gateway is lost.</param>
/// <param name="avoided">Gateways that were tried in vain.</param>
internal sealed class SingleGateway(IGatewayListProvider all, SiloLoss loss, HashSet<Uri> avoided) : IGatewayListProvider
{
    private Uri? _lost;

    /// <summary>The gateway in use, or null.</summary>
    public Uri? Current { get; private set; }

    /// <inheritdoc/>
    public TimeSpan MaxStaleness => TimeSpan.FromSeconds(1);

    /// <inheritdoc/>
    [Obsolete("Orleans no longer asks")]
    public bool IsUpdatable => true;

    /// <summary>Puts the list of one in the place of the list of all.</summary>
    public static void Use(IServiceCollection services, SiloLoss loss, HashSet<Uri> avoided)
    {
        ServiceDescriptor usual = services.Last(service => service.ServiceType == typeof(IGatewayListProvider));
        services.Remove(usual);
        services.AddSingleton<IGatewayListProvider>(provider => new SingleGateway(
            (IGatewayListProvider)ActivatorUtilities.CreateInstance(provider, usual.ImplementationType!), loss, avoided));
    }

    /// <inheritdoc/>
    public Task InitializeGatewayListProvider() => all.InitializeGatewayListProviderAsync();

    /// <inheritdoc/>
    public async Task<IList<Uri>> GetGateways()
    {
        IList<Uri> known = await all.GetGatewaysAsync();
        if (_lost is { } before)
        {
            // Calls that were sent after the loss was seen, but before Orleans took the new list.
            _lost = null;
            loss.Report($"gateway {before.Host}:{before.Port}");
        }

        if (Current is { } current)
        {
            if (known.Contains(current) && await AnswersAsync(current))
            {
                return [current];
            }

            _lost = current;
            Current = null;
            loss.Report($"gateway {current.Host}:{current.Port}");
        }

        Uri[] candidates = [.. known.Where(gateway => gateway != _lost && !avoided.Contains(gateway))];
        Random.Shared.Shuffle(candidates);
        foreach (Uri gateway in candidates)
        {
            if (await AnswersAsync(gateway))
            {
                Current = gateway;
                return [gateway];
            }
        }

        // Nothing better is known: Orleans tries these, and asks again within a second.
        return known;
    }

    private static Task<bool> AnswersAsync(Uri gateway) => IPAddress.TryParse(gateway.Host.Trim('[', ']'), out IPAddress? address)
        ? Reachability.AnswersAsync(new(address, gateway.Port), CancellationToken.None)
        : Task.FromResult(true);
}
