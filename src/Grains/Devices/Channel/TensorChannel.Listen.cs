using System.Net;
using System.Net.Sockets;

namespace Krewe.Grains.Devices.Channel;

/// <content>Connections of senders.</content>
public sealed partial class TensorChannel
{
    /// <summary>Strangers that may greet at a time; more are cut off at once.</summary>
    private const int MostGreetings = 128;

    private readonly List<Socket> _listeners = [];
    private string? _socketFile;
    private int _greetings;

    /// <summary>Begins to listen; <see cref="Address"/> is known from here on.</summary>
    /// <exception cref="ChannelException">The TCP address is not free or not of this machine.</exception>
    public Task StartAsync(CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        int port = ListenTcp();
        try
        {
            ListenUnix();
        }
        catch (ChannelException exception)
        {
            // TCP reaches this silo too; only slower.
            LogNoUnixSocket(_logger, exception.Message);
        }

        string host = _options.AdvertisedHost ?? _options.Listen.ToString();
        _address = new(_silo, MachineIdentity.Value, _socketFile, host, port, _token, _incarnation);
        _listeners.ForEach(listener => Start(() => AcceptAsync(listener)));
        Start(SweepAsync);
        return Task.CompletedTask;
    }

    private int ListenTcp()
    {
        var socket = new Socket(_options.Listen.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Bind(new IPEndPoint(_options.Listen, _options.Port));
            socket.Listen();
            _listeners.Add(socket);
            return ((IPEndPoint)socket.LocalEndPoint!).Port;
        }
        catch (SocketException exception)
        {
            socket.Dispose();
            throw new ChannelException(
                $"the tensor channel of {_silo} cannot listen on {_options.Listen}:{_options.Port}: {exception.Message}",
                exception);
        }
    }

    private void ListenUnix()
    {
        if (_options.UnixSocketFolder is { } folder && Socket.OSSupportsUnixDomainSockets)
        {
            (Socket socket, _socketFile) = UnixSocketFile.Listen(folder, _incarnation);
            _listeners.Add(socket);
        }
    }

    private void StopListening()
    {
        _listeners.ForEach(listener => listener.Dispose());
        if (_socketFile is not null)
        {
            File.Delete(_socketFile);
        }
    }

    private async Task AcceptAsync(Socket listener)
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                Socket socket = await listener.AcceptAsync(_stop.Token).ConfigureAwait(false);
                if (Volatile.Read(ref _greetings) >= MostGreetings)
                {
                    socket.Dispose();
                    continue;
                }

                Interlocked.Increment(ref _greetings);
                Start(() => ServeAsync(socket));
            }
            catch (SocketException exception) when (!_stop.IsCancellationRequested)
            {
                // A peer that left before it was accepted, or no file descriptors: the next may fare better.
                LogNotAccepted(_logger, exception.Message);
                await Task.Delay(TimeSpan.FromMilliseconds(100), _stop.Token).ConfigureAwait(false);
            }
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        using IncomingConnection? connection = await GreetedAsync(socket).ConfigureAwait(false);
        if (connection is not null)
        {
            using CancellationTokenRegistration stop = _stop.Token.UnsafeRegister(
                static state => ((IncomingConnection)state!).Dispose(), connection);
            string reason = await connection.RunAsync().ConfigureAwait(false);
            LogLost(_logger, connection.Peer, reason);
        }
    }

    /// <summary>The connection of a sender that proved the token and was told its window; null for any other.</summary>
    private async Task<IncomingConnection?> GreetedAsync(Socket socket)
    {
        ChannelSocket? channel = null;
        IncomingConnection? connection = null;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        deadline.CancelAfter(_options.ConnectDeadline);
        try
        {
            ChannelSocket.Tune(socket);
            channel = new(socket);
            if (_options.Faults?.TakeRefusal() == true)
            {
                throw new ChannelException("refused by a test");
            }

            (Handshake.Sender sender, ChannelMessage welcome) = await Handshake.AcceptAsync(channel, Address, deadline.Token)
                .ConfigureAwait(false);
            while (_inbox.Find(sender.Incarnation) is { } former)
            {
                // The sender gave it up: its receivers must know before new tensors come.
                former.Dispose();
                await former.Ended.WaitAsync(deadline.Token).ConfigureAwait(false);
            }

            connection = new(
                channel, sender.Incarnation, $"{sender.Silo} ({channel.Endpoint}, {sender.Incarnation:N})", _options, _inbox, _pool);
            if (!_inbox.Add(connection))
            {
                connection.Dispose();
                throw new ChannelException("another connection of the same sender");
            }

            await Handshake.SendAsync(channel, welcome with { Bytes = connection.Window }, deadline.Token)
                .ConfigureAwait(false);
            return connection;
        }
        catch (Exception exception)
        {
            // A stranger's fault is no fault of this silo, whatever it was.
            await RefuseAsync(channel, exception.Message).ConfigureAwait(false);
            socket.Dispose();
            return null;
        }
        finally
        {
            Interlocked.Decrement(ref _greetings);
        }
    }

    private async Task RefuseAsync(ChannelSocket? channel, string reason)
    {
        if (_stop.IsCancellationRequested)
        {
            return;
        }

        LogRefused(_logger, channel?.Endpoint ?? "a peer that left", reason);
        if (channel is not null)
        {
            await Handshake.TellFaultAsync(channel, reason).ConfigureAwait(false);
        }
    }

    private async Task SweepAsync()
    {
        TimeSpan shortest = _options.ReceiveDeadline < _options.UnclaimedLife
            ? _options.ReceiveDeadline : _options.UnclaimedLife;
        using var timer = new PeriodicTimer(
            TimeSpan.FromMilliseconds(Math.Clamp(shortest.TotalMilliseconds / 8, 10, 1000)));
        long trimmed = Environment.TickCount64;
        try
        {
            while (await timer.WaitForNextTickAsync(_stop.Token).ConfigureAwait(false))
            {
                _inbox.Sweep();
                if (Environment.TickCount64 - trimmed > _options.UnclaimedLife.TotalMilliseconds)
                {
                    _pool.TrimIfIdle();
                    trimmed = Environment.TickCount64;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The channel closes.
        }
    }
}
