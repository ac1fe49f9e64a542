using Krewe.Grains.Pipeline;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices;

/// <summary>
/// A stage in a silo's store: its parameters and activations, what its neighbours delivered, and the way to them. The
/// grain is only a handle to it.
/// </summary>
/// <param name="name">Model or run, direction and stage, for messages.</param>
/// <param name="stage">The stage.</param>
/// <param name="fleet">Its experts.</param>
/// <param name="device">Its device.</param>
internal sealed class HostedStage(string name, ModelStage stage, GrainExpertFleet fleet, IDevice device) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(long Slot, bool Gradients), Arena> _arenas = [];
    private readonly Dictionary<(long Slot, bool Gradients), TaskCompletionSource<StageActivations>> _inbox = [];
    private readonly Dictionary<(long Slot, bool Gradients), Task> _deliveries = [];
    private readonly Dictionary<long, Task<StageReport>> _reports = [];
    private readonly Stack<Arena> _idle = [];
    private Arena? _lent;

    /// <summary>Model or run, direction and stage.</summary>
    public string Name { get; } = name;

    /// <summary>The stage.</summary>
    public ModelStage Stage { get; } = stage;

    /// <summary>Its experts.</summary>
    public GrainExpertFleet Fleet { get; } = fleet;

    /// <summary>True once its parameters have values.</summary>
    public bool Filled { get; set; }

    /// <summary>The stage before, or null for the first.</summary>
    public Neighbour<IPipelineStageGrain>? Previous { get; set; }

    /// <summary>The stage behind, or null for the last.</summary>
    public Neighbour<IPipelineStageGrain>? Next { get; set; }

    /// <summary>The same stage of the other direction, where it lives elsewhere.</summary>
    public Neighbour<IPipelineStageGrain>? Mirror { get; set; }

    /// <summary>Parameters that the mirror has too: the banks of their gradients are exchanged, in this order.</summary>
    public IReadOnlyList<ParameterSet> Mirrored { get; set; } = [];

    /// <summary>The embedding of a first stage, where it lives elsewhere.</summary>
    public RemoteEmbedding? RemoteEmbedding { get; set; }

    /// <summary>
    /// True where nobody but its own device reads what its calls compute, so that they may end when their works were
    /// launched.
    /// </summary>
    public bool IsAlone => Previous is null && Next is null && Mirror is null && RemoteEmbedding is null
        && Stage.RemoteHead is null && !device.SharesHostMemory();

    /// <summary>What embedding or head gave the copy of the stage that does not have them, until its next call.</summary>
    public Arena Lent => _lent ??= device.CreateArena($"{Name}: for the other direction");

    /// <summary>Empties and returns the arena for a delivery.</summary>
    public Arena ArenaFor(long slot, bool gradients)
    {
        lock (_lock)
        {
            if (!_arenas.TryGetValue((slot, gradients), out Arena? arena))
            {
                arena = _idle.Count > 0 ? _idle.Pop() : device.CreateArena($"{Name}: deliveries");
                _arenas.Add((slot, gradients), arena);
            }

            arena.Reset();
            return arena;
        }
    }

    /// <summary>An empty arena for a while; see <see cref="GiveBack"/>.</summary>
    public Arena TakeArena()
    {
        lock (_lock)
        {
            Arena arena = _idle.Count > 0 ? _idle.Pop() : device.CreateArena($"{Name}: deliveries");
            arena.Reset();
            return arena;
        }
    }

    /// <summary>Lets others have the memory of an arena that was taken.</summary>
    public void GiveBack(Arena arena)
    {
        lock (_lock)
        {
            _idle.Push(arena);
        }
    }

    /// <summary>Keeps a delivery to a neighbour that is under way.</summary>
    public void AddDelivery(long slot, bool gradients, Task delivery)
    {
        lock (_lock)
        {
            _deliveries[(slot, gradients)] = delivery;
        }
    }

    /// <summary>A delivery that was kept; one that nobody knows of has ended.</summary>
    public Task TakeDelivery(long slot, bool gradients)
    {
        lock (_lock)
        {
            return _deliveries.Remove((slot, gradients), out Task? delivery) ? delivery : Task.CompletedTask;
        }
    }

    /// <summary>Keeps the report of a forward that is still computing.</summary>
    public void AddReport(long slot, Task<StageReport> report)
    {
        lock (_lock)
        {
            _reports[slot] = report;
        }
    }

    /// <summary>A report that was kept.</summary>
    /// <exception cref="InvalidOperationException">There is none, or it was taken.</exception>
    public Task<StageReport> TakeReport(long slot)
    {
        lock (_lock)
        {
            return _reports.Remove(slot, out Task<StageReport>? report)
                ? report
                : throw new InvalidOperationException($"{Name} has no report of micro-batch {slot}");
        }
    }

    /// <summary>Lays down a delivery for whoever waits for it or will.</summary>
    public void Deliver(long slot, bool gradients, StageActivations value)
    {
        TaskCompletionSource<StageActivations> box = BoxOf(slot, gradients);
        if (!box.TrySetResult(value))
        {
            // A micro-batch that is run again outside of an attempt, as by an evaluation: the newest counts.
            lock (_lock)
            {
                _inbox.Remove((slot, gradients));
            }

            BoxOf(slot, gradients).SetResult(value);
        }
    }

    /// <summary>Waits for a delivery and takes it.</summary>
    /// <exception cref="TimeoutException">It did not come in time.</exception>
    public async Task<StageActivations> TakeAsync(long slot, bool gradients, TimeSpan deadline, CancellationToken abandoned)
    {
        try
        {
            StageActivations value = await BoxOf(slot, gradients).Task.WaitAsync(deadline, abandoned);
            lock (_lock)
            {
                _inbox.Remove((slot, gradients));
            }

            return value;
        }
        catch (TimeoutException exception)
        {
            int from = Stage.Range.Index + (gradients ? 1 : -1);
            throw new TimeoutException(
                $"{Name} has waited {deadline.TotalSeconds:F0} s for the {(gradients ? "gradients" : "activations")} of " +
                $"micro-batch {slot} from stage {from}", exception);
        }
    }

    /// <summary>The weight gradients of a micro-batch were added: its memory goes to others.</summary>
    public void EndOf(long slot)
    {
        // After a check the activations stay, to be read.
        if (!Stage.Holds(slot))
        {
            Retire(slot);
        }
    }

    /// <summary>Takes back what a micro-batch was delivered.</summary>
    public void Retire(long slot)
    {
        Fleet.Retire(slot);
        lock (_lock)
        {
            foreach (bool gradients in (ReadOnlySpan<bool>)[false, true])
            {
                if (_arenas.Remove((slot, gradients), out Arena? arena))
                {
                    _idle.Push(arena);
                }
            }
        }
    }

    /// <summary>Frees what is kept for a slot or session.</summary>
    public void Release(long slot)
    {
        Fleet.Release(slot);
        Retire(slot);
        lock (_lock)
        {
            _inbox.Remove((slot, false));
            _inbox.Remove((slot, true));
        }
    }

    /// <summary>Forgets every micro-batch: the attempt was abandoned.</summary>
    public void RetireAll()
    {
        Stage.RetireAll();
        RemoteEmbedding?.Clear();
        lock (_lock)
        {
            foreach (Arena arena in _arenas.Values)
            {
                _idle.Push(arena);
            }

            _arenas.Clear();
            _inbox.Clear();
            _deliveries.Clear();
            _reports.Clear();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Stage.Dispose();
        Fleet.Dispose();
        _lent?.Dispose();
        foreach (Arena arena in _arenas.Values.Concat(_idle))
        {
            arena.Dispose();
        }

        _arenas.Clear();
        _idle.Clear();
    }

    private TaskCompletionSource<StageActivations> BoxOf(long slot, bool gradients)
    {
        lock (_lock)
        {
            if (!_inbox.TryGetValue((slot, gradients), out TaskCompletionSource<StageActivations>? box))
            {
                box = new(TaskCreationOptions.RunContinuationsAsynchronously);
                _inbox.Add((slot, gradients), box);
            }

            return box;
        }
    }
}
