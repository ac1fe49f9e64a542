using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>Experts on the device of this process, called directly: the loop without a cluster.</summary>
/// <param name="device">Where the experts live.</param>
/// <param name="experts">The experts of a layer by index; null where another host holds it.</param>
public sealed class LocalExpertHost(IDevice device, Func<int, IReadOnlyList<Expert?>> experts) : IExpertHost, IDisposable
{
    private readonly Dictionary<(int Layer, long Slot), ExpertBatch> _batches = [];
    private readonly Stack<ExpertBatch> _idle = [];
    private readonly List<Task> _submitted = [];

    /// <inheritdoc/>
    public bool SharesDevice => true;

    /// <inheritdoc/>
    public Task<Expert[]> JoinAsync(int layer, int count, SlotCall work)
    {
        IReadOnlyList<Expert?> all = experts(layer);
        return Task.FromResult<Expert[]>([.. Enumerable.Range(0, count).Select(index => ExpertOf(all, layer, index))]);
    }

    /// <inheritdoc/>
    public async Task<Tensor> ForwardAsync(ExpertCall call, ExpertSlice slice, Tensor rows)
    {
        ExpertBatch batch = BatchOf(call);
        IReadOnlyList<Expert?> all = experts(call.Layer);
        Expert[] chosen = [.. slice.Experts.Select(index => ExpertOf(all, call.Layer, index))];
        Tensor result = default;
        Task done = device.SubmitAsync(
            kernels => result = batch.Forward(kernels, slice, chosen, rows, copyInput: false), call.Work.Priority);
        if (slice.OnDevice is not null)
        {
            GoOn(done);
            return default;
        }

        await done;
        return result;
    }

    /// <inheritdoc/>
    public async Task<ExpertGradients> BackwardAsync(ExpertCall call, Tensor gradRows)
    {
        ExpertBatch batch = BatchOf(call);
        ExpertGradients result = default;
        Task done = device.SubmitAsync(kernels => result = batch.Backward(kernels, gradRows), call.Work.Priority);
        if (gradRows.IsEmpty)
        {
            GoOn(done);
            return default;
        }

        await done;
        return result;
    }

    /// <inheritdoc/>
    public async Task BackwardWeightAsync(ExpertCall call)
    {
        ExpertBatch? batch;
        lock (_batches)
        {
            batch = _batches.GetValueOrDefault((call.Layer, call.Slot));
        }

        if (batch is not null)
        {
            await device.SubmitAsync(batch.BackwardWeight);
            await FailuresAsync();
            Retire(call);
        }
    }

    /// <inheritdoc/>
    public Task ReleaseAsync(long slot)
    {
        lock (_batches)
        {
            foreach ((int, long Slot) key in _batches.Keys.Where(key => key.Slot == slot).ToArray())
            {
                _batches.Remove(key, out ExpertBatch? batch);
                batch!.Dispose();
            }
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ExpertBatch batch in _batches.Values.Concat(_idle))
        {
            batch.Dispose();
        }

        _batches.Clear();
        _idle.Clear();
    }

    private Expert ExpertOf(IReadOnlyList<Expert?> all, int layer, int index) => all[index]
        ?? throw new InvalidOperationException($"expert {layer}/{index} is not on {device.Name}");

    /// <summary>Lets work run that nobody waits for; how it ended is asked for with the weight gradients.</summary>
    private void GoOn(Task done)
    {
        lock (_batches)
        {
            _submitted.RemoveAll(task => task.IsCompletedSuccessfully);
            _submitted.Add(done);
        }
    }

    /// <summary>Throws what such work has thrown.</summary>
    private Task FailuresAsync()
    {
        lock (_batches)
        {
            Task[] failed = [.. _submitted.Where(task => task.IsFaulted)];
            _submitted.RemoveAll(task => task.IsCompleted);
            return Task.WhenAll(failed);
        }
    }

    private void Retire(ExpertCall call)
    {
        lock (_batches)
        {
            if (_batches.Remove((call.Layer, call.Slot), out ExpertBatch? batch))
            {
                _idle.Push(batch);
            }
        }
    }

    private ExpertBatch BatchOf(ExpertCall call)
    {
        lock (_batches)
        {
            if (!_batches.TryGetValue((call.Layer, call.Slot), out ExpertBatch? batch))
            {
                batch = _idle.Count > 0 ? _idle.Pop() : new(device, $"experts, activations {_batches.Count}");
                _batches.Add((call.Layer, call.Slot), batch);
            }

            return batch;
        }
    }
}
