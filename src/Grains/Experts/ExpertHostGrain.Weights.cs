using Krewe.Grains.Devices;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Experts;

/// <content>Weight gradients, each layer's in the order of the slots.</content>
public sealed partial class ExpertHostGrain
{
    private readonly List<Task> _weights = [];

    /// <summary>
    /// Adds weight gradients as long as the next slot of the layer is ready, in the background: the requests of other
    /// stages pass them on the device. What a slot has kept goes to others when they were launched.
    /// </summary>
    private async Task TakeTurnsAsync(int layer, StepGate.Entry entry)
    {
        using (entry)
        {
            HostedModel model = Model;
            WeightQueue queue = model.QueueOf(layer);
            while (!entry.Abandoned.IsCancellationRequested && queue.TryTake(out ExpertPass? pass))
            {
                if (pass is null)
                {
                    continue;
                }

                model.PassEnds();
                try
                {
                    await RunAsync(
                        layer, pass, (kernels, _) => pass.Batch.BackwardWeight(kernels), WorkPriority.Background,
                        Launched(entry));
                    model.Retire(layer, queue.Next - 1);
                }
                finally
                {
                    model.PassEnded();
                }
            }
        }
    }

    /// <summary>
    /// Waits until every weight gradient that was asked for has been added, or will have been ahead of what is submitted
    /// from then on.
    /// </summary>
    /// <exception cref="InvalidOperationException">One still waits for a slot that never came.</exception>
    private async Task WeightsAddedAsync()
    {
        while (_weights.Count > 0)
        {
            Task[] turns = [.. _weights];
            _weights.Clear();
            await Task.WhenAll(turns);
        }

        foreach ((int layer, WeightQueue queue) in Model.Queues)
        {
            if (queue.Waiting > 0)
            {
                throw new InvalidOperationException(
                    $"'{_name}' on silo '{_host.Place}': {queue.Waiting} weight gradients of layer {layer} wait for " +
                    $"micro-batch {queue.Next}, whose own were never asked for");
            }
        }
    }
}
