using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Placement;

namespace Krewe.Grains.Devices;

/// <summary>The post of each place of a silo; all send and receive through the silo's one channel.</summary>
public sealed class TensorPosts : IDisposable
{
    private readonly Dictionary<DeviceHost, TensorPost> _posts;

    /// <param name="hosts">The silo's places.</param>
    /// <param name="plans">Know the other silos' channels.</param>
    /// <param name="channel">The silo's own.</param>
    public TensorPosts(DeviceHosts hosts, PlacementPlans plans, TensorChannel channel)
    {
        _posts = hosts.All.ToDictionary(host => host, host => new TensorPost(host, plans, channel));
        First = _posts[hosts.First];
    }

    /// <summary>The post of the first place: for whoever has nothing on a device.</summary>
    public TensorPost First { get; }

    /// <summary>The post of a place.</summary>
    public TensorPost Of(DeviceHost host) => _posts[host];

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (TensorPost post in _posts.Values)
        {
            post.Dispose();
        }
    }
}
