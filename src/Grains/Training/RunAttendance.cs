using Krewe.Grains.Devices;
using Microsoft.Extensions.Logging;
using Orleans.Runtime;

namespace Krewe.Grains.Training;

/// <summary>
/// Asks the run grains of all models on this silo every second whether they are there: a run whose grain died with its
/// silo is activated anew by the first silo that asks, and goes on.
/// </summary>
internal sealed partial class RunAttendance(
    DeviceHosts hosts, IGrainFactory grains, ILogger<RunAttendance> logger, TimeProvider clock)
    : ILifecycleParticipant<ISiloLifecycle>, IDisposable
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);

    private readonly CancellationTokenSource _stop = new();
    private Task _asking = Task.CompletedTask;

    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(
        nameof(RunAttendance), ServiceLifecycleStage.Active,
        _ =>
        {
            _asking = Task.Run(AskAsync, CancellationToken.None);
            return Task.CompletedTask;
        },
        async _ =>
        {
            await _stop.CancelAsync();
            await _asking;
        });

    /// <inheritdoc/>
    public void Dispose() => _stop.Dispose();

    private async Task AskAsync()
    {
        using var timer = new PeriodicTimer(Period, clock);
        try
        {
            while (await timer.WaitForNextTickAsync(_stop.Token))
            {
                foreach (HostedModel model in hosts.All.SelectMany(host => host.Models).DistinctBy(model => model.Name))
                {
                    if (model.RunFolder is { } folder)
                    {
                        await AskAsync(model.Name, folder);
                    }
                }
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // The silo stops.
        }
    }

    private async Task AskAsync(string run, string folder)
    {
        try
        {
            await grains.GetGrain<ITrainingRunGrain>(run).AttendAsync(folder).WaitAsync(_stop.Token);
        }
        catch (Exception exception) when (!_stop.IsCancellationRequested)
        {
            // Asked again in a second; the run's own faults reach its watchers.
            LogAskFailed(logger, exception, run);
        }
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "Run {Run} could not be asked")]
    private static partial void LogAskFailed(ILogger logger, Exception exception, string run);
}
