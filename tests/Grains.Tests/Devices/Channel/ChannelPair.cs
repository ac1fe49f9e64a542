using Krewe.Grains.Devices.Channel;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Grains.Tests.Devices.Channel;

/// <summary>Two channels of this process that talk over real sockets, and an arena for each.</summary>
internal sealed class ChannelPair : IAsyncDisposable
{
    private readonly TemporaryFolder _folder = new();

    private ChannelPair(bool unix, TensorChannelOptions options, TensorChannelOptions? receiver)
    {
        string? folder = unix ? _folder["s"] : null;
        Sender = new("sender", options with { UnixSocketFolder = folder });
        Receiver = new("receiver", (receiver ?? options) with { UnixSocketFolder = folder });
    }

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    public TensorChannel Sender { get; }

    public TensorChannel Receiver { get; }

    public HostArena Source { get; } = new("source");

    public HostArena Target { get; } = new("target");

    public static async Task<ChannelPair> StartAsync(
        bool unix = true, TensorChannelOptions? options = null, TensorChannelOptions? receiver = null)
    {
        var pair = new ChannelPair(unix, options ?? new(), receiver);
        await pair.Sender.StartAsync(Token);
        await pair.Receiver.StartAsync(Token);
        return pair;
    }

    /// <summary>A float tensor whose values depend on the seed.</summary>
    public static unsafe Tensor Numbers(HostArena arena, int rows, int columns, int seed)
    {
        Tensor tensor = arena.Allocate(rows, columns);
        for (long i = 0; i < tensor.Count; i++)
        {
            tensor.Floats[i] = (seed * 1000) + i;
        }

        return tensor;
    }

    /// <summary>Sends a tensor and takes it at the other end.</summary>
    public async Task<Tensor> PassAsync(Tensor tensor)
    {
        TensorTicket ticket = Sender.Announce(tensor, 1, 1);
        Task sent = Sender.SendAsync(Receiver.Address, ticket, tensor, Token);
        Task<Tensor> received = Receiver.ReceiveAsync(ticket, Target, Token).AsTask();
        await await Task.WhenAny(sent, received);
        await sent;
        return await received;
    }

    public async ValueTask DisposeAsync()
    {
        await Sender.DisposeAsync();
        await Receiver.DisposeAsync();
        Source.Dispose();
        Target.Dispose();
        _folder.Dispose();
    }
}
