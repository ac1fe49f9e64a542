using System.Security.Cryptography;
using Krewe.Model.Tensors;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// The side channel between silos: grain calls carry a <see cref="TensorTicket"/>, the values travel here, over a
/// Unix-domain socket on one machine and TCP between machines, so that no call waits behind megabytes. Thread-safe.
/// </summary>
/// <remarks>
/// <para>Ownership. The sender keeps its tensor until <see cref="SendAsync"/> has ended, in whatever way; then it may
/// change or free it. The receiver's tensor is the receiver's, from its arena; the arena must live, and not be reset,
/// until <see cref="ReceiveAsync"/> has ended, in whatever way. Host memory only.</para>
/// <para>Use. Start the sending, make the grain call that carries the ticket, then await both: a sending that finds no
/// room ends only when earlier tensors are claimed, or when its own is asked for. Every ticket of a failed call is
/// dropped by <see cref="Discard"/>, at the latest by <see cref="TensorChannelOptions.UnclaimedLife"/>.</para>
/// <para>No deadlock. The reader of a connection never waits for a receiver: what has begun to come is read into the
/// receiver's tensor, a buffer, or nowhere, so every tensor under way arrives. Buffers are bounded at the sender, which
/// has a window per peer; one without room is offered by its ticket, and the receiver who asks for that ticket, before
/// or after, admits it past the window, since its memory waits in the receiver's arena. So a receiver waits only for
/// its own sender's call, never for other tensors to be claimed.</para>
/// <para>Loss. When a connection ends, its sendings fail, and so do the receivers that wait for that sender; complete
/// tensors stay. One try each: who retries starts a new attempt with new tickets, and may have to do so twice, since
/// the loss reaches the receiver in its own time and fails whoever waits for that sender just then.</para>
/// </remarks>
public sealed partial class TensorChannel : IAsyncDisposable
{
    private static readonly TimeSpan CloseDeadline = TimeSpan.FromSeconds(1);

    private readonly TensorChannelOptions _options;
    private readonly ILogger _logger;
    private readonly string _silo;
    private readonly Guid _incarnation = Guid.NewGuid();
    private readonly string _token = Convert.ToBase64String(RandomNumberGenerator.GetBytes(ChannelMessage.SecretBytes));
    private readonly NativeBufferPool _pool = new();
    private readonly Inbox _inbox;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly Dictionary<Guid, Task<OutgoingConnection>> _outgoing = [];
    private readonly HashSet<Task> _running = [];
    private ChannelAddress? _address;
    private long _lastTicket;
    private bool _disposed;

    /// <summary>A channel that does not listen yet.</summary>
    /// <param name="silo">Name of the silo, for messages of its peers.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="logger">Where refused and lost connections are logged.</param>
    public TensorChannel(string silo, TensorChannelOptions? options = null, ILogger<TensorChannel>? logger = null)
    {
        _silo = silo;
        _options = options ?? new();
        _logger = logger ?? NullLogger<TensorChannel>.Instance;
        _inbox = new(_options, _pool);
    }

    /// <summary>Where peers reach this channel, with its secret.</summary>
    /// <exception cref="InvalidOperationException">It was not started.</exception>
    public ChannelAddress Address =>
        _address ?? throw new InvalidOperationException($"the tensor channel of {_silo} was not started");

    /// <summary>Bytes of tensors, whole or on their way, that nobody asked for.</summary>
    public long UnclaimedBytes => _inbox.UnclaimedBytes;

    /// <summary>Bytes of native buffers, in use or kept for the next tensor.</summary>
    public long PooledBytes => _pool.Bytes;

    /// <summary>Receivers that wait for a tensor.</summary>
    public int PendingReceives => _inbox.PendingCount;

    /// <summary>Makes the ticket of a tensor. No I/O; nothing is kept.</summary>
    /// <param name="tensor">What will be sent; may be empty.</param>
    /// <param name="scope">What it belongs to, such as a run.</param>
    /// <param name="attempt">Attempt within the scope.</param>
    public TensorTicket Announce(Tensor tensor, long scope, long attempt) => new(
        Interlocked.Increment(ref _lastTicket), _incarnation, tensor.IsEmpty ? [] : tensor.Shape.ToArray(),
        tensor.DType, scope, attempt);

    /// <summary>
    /// Sends a tensor to a peer and completes when the peer's channel has all of it, claimed or not: what was handed to
    /// a socket can still be lost, and then nobody would know. Cancelled in the middle of the values, it tears the
    /// connection down for all; before or after, nobody notices.
    /// </summary>
    /// <param name="peer">Who receives.</param>
    /// <param name="ticket">The tensor's ticket, from <see cref="Announce"/> of this channel.</param>
    /// <param name="tensor">Host memory, rows may have gaps.</param>
    /// <param name="cancellationToken">Ends the sending.</param>
    /// <exception cref="ChannelException">The peer is lost or refuses, or the deadline has passed.</exception>
    /// <exception cref="ArgumentException">The ticket is of another channel or of another shape.</exception>
    public async Task SendAsync(
        ChannelAddress peer, TensorTicket ticket, Tensor tensor, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        CheckTicket(ticket, tensor);
        if (ticket.Bytes == 0)
        {
            return;
        }

        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(_options.SendDeadline);
        try
        {
            OutgoingConnection connection = await ConnectionTo(peer).WaitAsync(deadline.Token).ConfigureAwait(false);
            await connection.SendAsync(ticket, tensor, deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new ChannelException(
                $"sending {ticket} to {peer} failed: not done within {_options.SendDeadline.TotalSeconds:0.###} s");
        }
        catch (ChannelException exception)
        {
            throw new ChannelException($"sending {ticket} to {peer} failed: {exception.Message}", exception);
        }
    }

    /// <summary>
    /// Takes a dense tensor from <paramref name="arena"/> at once and waits until its values have come; they go straight
    /// into it where they come after the call. Empty tickets give empty tensors at once.
    /// </summary>
    /// <param name="ticket">What the grain call carried.</param>
    /// <param name="arena">Host memory of the caller; touched only before this method returns its task.</param>
    /// <param name="cancellationToken">Ends the waiting; the tensor is not written to afterwards.</param>
    /// <exception cref="ChannelException">
    /// The sender was lost, the attempt was discarded, or the deadline has passed.
    /// </exception>
    /// <exception cref="InvalidOperationException">The ticket is awaited already.</exception>
    public ValueTask<Tensor> ReceiveAsync(TensorTicket ticket, Arena arena, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (ticket.IsEmpty)
        {
            return new(default(Tensor));
        }

        if (ticket.Bytes > _options.MaxTensorBytes)
        {
            throw new ChannelException(
                $"receiving {ticket} failed: {ticket.Bytes:N0} bytes, at most {_options.MaxTensorBytes:N0} are allowed");
        }

        Tensor target = arena.Allocate(TensorShape.Of(ticket.Shape), ticket.DType);
        return ticket.Bytes == 0 ? new(target) : _inbox.ReceiveAsync(ticket, target, cancellationToken);
    }

    /// <summary>
    /// Drops the tensors of a scope's attempts below <paramref name="beforeAttempt"/>, those that came and those that
    /// will, and fails their receivers.
    /// </summary>
    public void Discard(long scope, long beforeAttempt) => _inbox.Discard(scope, beforeAttempt);

    /// <summary>
    /// Stops listening, ends all connections, fails all sendings and receivers, frees the buffers and removes the
    /// socket's file; takes a second at most.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        // Receivers first: they shall hear the reason, not that a connection was lost.
        _inbox.Close($"the tensor channel of {_silo} was closed");
        await _stop.CancelAsync().ConfigureAwait(false);
        StopListening();
        Task[] running;
        lock (_lock)
        {
            running = [.. _running];
        }

        await Task.WhenAny(Task.WhenAll(running), Task.Delay(CloseDeadline)).ConfigureAwait(false);
        _pool.Dispose();
    }

    private void CheckTicket(TensorTicket ticket, Tensor tensor)
    {
        if (ticket.Sender != _incarnation)
        {
            throw new ArgumentException($"{ticket} is not of this channel, {_incarnation:N}", nameof(ticket));
        }

        if (!tensor.OnHost && !tensor.IsEmpty)
        {
            throw new ArgumentException($"{ticket}: the channel reads host memory, and {tensor} is a device's", nameof(tensor));
        }

        bool same = ticket.IsEmpty ? tensor.IsEmpty
            : !tensor.IsEmpty && ticket.DType == tensor.DType && TensorShape.Of(ticket.Shape) == tensor.Shape;
        if (!same)
        {
            throw new ArgumentException($"{ticket} does not fit {tensor}", nameof(tensor));
        }
    }

    /// <summary>Runs something until the channel closes; Dispose waits for it.</summary>
    private void Start(Func<Task> work)
    {
        // Without the caller's context: a grain's request must not live as long as a connection.
        using AsyncFlowControl flow = ExecutionContext.SuppressFlow();
        var task = Task.Run(work);
        lock (_lock)
        {
            _running.Add(task);
        }

        task.ContinueWith(
            done =>
            {
                lock (_lock)
                {
                    _running.Remove(done);
                }
            },
            CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }
}
