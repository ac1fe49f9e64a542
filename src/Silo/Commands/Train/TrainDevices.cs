using Krewe.Grains.Interfaces.Devices;
using Krewe.Model.Layers;

namespace Krewe.Silo.Commands.Train;

/// <summary>What the GPUs of a run say of it at its end.</summary>
/// <param name="PeakBytes">Most device memory in use at one time, summed over places.</param>
/// <param name="OperationsPerToken"><see cref="StageCost.TrainingOperations"/> of the model.</param>
/// <param name="BFloat16Rate">
/// Published rate of bfloat16 matrix products of all cards together, operations a second; 0 where one is not known.
/// </param>
internal sealed record TrainDevices(long PeakBytes, double OperationsPerToken, double BFloat16Rate)
{
    /// <summary>Share of the cards' published bfloat16 rate that the model's operations take; null without a rate.</summary>
    /// <param name="tokens">Tokens of a step.</param>
    /// <param name="seconds">Time of a step.</param>
    public double? Utilization(int tokens, double seconds) =>
        BFloat16Rate > 0 ? OperationsPerToken * tokens / seconds / BFloat16Rate : null;

    /// <summary>Asks the devices of an embedded cluster; null where one of them is no GPU.</summary>
    /// <param name="grains">The cluster, all silos in this process.</param>
    /// <param name="plan">The run.</param>
    public static async Task<TrainDevices?> ReadAsync(IGrainFactory grains, TrainPlan plan)
    {
        DeviceStatus[] devices = await Task.WhenAll(
            plan.Request.Silos.Select(silo => grains.GetGrain<IDeviceGrain>(silo).StatusAsync()));
        if (devices.Any(device => device.PeakBytes == 0))
        {
            return null;
        }

        // Places of one process that have a card of the same number share it.
        DeviceStatus[] cards = [.. devices.DistinctBy(device => device.Device)];
        return new(
            devices.Sum(device => device.PeakBytes),
            StageCost.TrainingOperations(plan.Model, plan.Recipe.SequenceLength),
            cards.All(card => card.BFloat16Rate > 0) ? cards.Sum(card => card.BFloat16Rate) : 0);
    }
}
