using Krewe.Model.Layers;

namespace Krewe.Grains.Devices;

/// <content>What the experts here keep of micro-batches, from the forward to the weight gradients.</content>
public sealed partial class HostedModel
{
    private readonly Dictionary<(int Layer, long Slot), ExpertPass> _passes = [];
    private readonly Dictionary<int, WeightQueue> _queues = [];
    private readonly Stack<ExpertPass> _idle = [];
    private TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _ending;

    /// <summary>
    /// What the experts here keep of a layer and slot, made when first asked for. Where calls go on behind their work, a
    /// micro-batch may begin ahead of the weight gradients of the one before: it waits for the memory of those rather than
    /// take more.
    /// </summary>
    public async ValueTask<ExpertPass> PassAsync(int layer, long slot, CancellationToken abandoned)
    {
        while (true)
        {
            Task ended;
            lock (_lock)
            {
                if (_passes.TryGetValue((layer, slot), out ExpertPass? pass))
                {
                    return pass;
                }

                if (_idle.Count > 0 || _ending == 0 || !GoesOn)
                {
                    pass = _idle.Count > 0 ? _idle.Pop() : new(Device, $"{Name}: experts, activations {_passes.Count}");
                    _passes.Add((layer, slot), pass);
                    return pass;
                }

                ended = _ended.Task;
            }

            await ended.WaitAsync(abandoned);
        }
    }

    /// <summary>The weight gradients of a pass are being added: soon another micro-batch may have its memory.</summary>
    public void PassEnds()
    {
        lock (_lock)
        {
            _ending++;
        }
    }

    /// <summary>They were added, or could not be.</summary>
    public void PassEnded()
    {
        lock (_lock)
        {
            _ending--;
            _ended.SetResult();
            _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>What was kept of a layer and slot, or null where no token came.</summary>
    public ExpertPass? FindPass(int layer, long slot)
    {
        lock (_lock)
        {
            return _passes.GetValueOrDefault((layer, slot));
        }
    }

    internal WeightQueue QueueOf(int layer)
    {
        lock (_lock)
        {
            if (!_queues.TryGetValue(layer, out WeightQueue? queue))
            {
                _queues.Add(layer, queue = new());
            }

            return queue;
        }
    }

    internal IReadOnlyDictionary<int, WeightQueue> Queues => _queues;

    /// <summary>Lets another micro-batch have the memory of one whose weight gradients were added.</summary>
    public void Retire(int layer, long slot)
    {
        lock (_lock)
        {
            if (_passes.Remove((layer, slot), out ExpertPass? pass))
            {
                _idle.Push(pass);
            }
        }
    }
}
