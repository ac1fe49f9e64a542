using Krewe.Grains.Devices;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Grains.Experts;

/// <content>The end of a step: norms and AdamW of all experts here, each in one launch that every expert joins.</content>
public sealed partial class ExpertHostGrain
{
    private CommonLaunch? _step;

    /// <inheritdoc/>
    public async Task<List<GradientNorm>> GradientNormsAsync(long attempt)
    {
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        var norms = new List<GradientNorm>();
        using (CommonLaunch launch = Announce(
            attempt, (kernels, experts) => Optimizer.Norms(kernels, experts.Select(expert => expert.Parameters), norms)))
        {
            await launch.GoAsync(WeightsAddedAsync(), static batch => batch.Done);
        }

        // They were ahead of the norms, and are done.
        await Model.Behind.EndedAsync();
        GiveUpStep();
        if (Model.GoesOn)
        {
            _step = AnnounceStep(attempt);
        }

        return norms;
    }

    /// <inheritdoc/>
    public async Task ApplyAsync(AdamWStep rates, long attempt)
    {
        faults.Reached(FaultPoints.Apply, rates.Step, _host);
        using StepGate.Entry entry = Model.Gate.Enter(attempt);
        using CommonLaunch launch = _step is { } announced && announced.Attempt == attempt
            ? announced
            : AnnounceStep(attempt);
        _step = null;
        launch.Rates = rates;
        await launch.GoAsync(Task.CompletedTask, Launched(entry));
    }

    /// <summary>AdamW with rates that come later: the experts join while the step is being committed.</summary>
    private CommonLaunch AnnounceStep(long attempt)
    {
        CommonLaunch launch = null!;
        return launch = Announce(
            attempt,
            (kernels, experts) => Optimizer.Apply(kernels, experts.Select(expert => expert.Parameters), launch.Rates));
    }

    /// <summary>Drops an announced step that nobody will apply.</summary>
    private void GiveUpStep()
    {
        _step?.Dispose();
        _step = null;
    }

    private CommonLaunch Announce(long attempt, Action<IKernels, Expert[]> work)
    {
        HostedModel model = Model;
        Expert[] experts = [.. model.Experts];
        var go = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        JoinedBatch? batch = experts.Length == 0 ? null : model.Announce(experts.Length, work, after: go.Task);
        Task joined = batch is null
            ? Task.CompletedTask
            : Task.WhenAll(experts.Select(e => GrainOf(e.Layer, e.Index).JoinAsync(batch.Id, 0).AsTask()));
        return new(attempt, model, batch, joined, go);
    }

    /// <summary>A launch of all experts here, which join it from now on and let it go later.</summary>
    /// <param name="attempt">Attempt at the step.</param>
    /// <param name="model">What is here.</param>
    /// <param name="batch">The launch; null where no expert is here.</param>
    /// <param name="joined">Completes when all have joined.</param>
    /// <param name="go">Lets it go.</param>
    private sealed class CommonLaunch(
        long attempt, HostedModel model, JoinedBatch? batch, Task joined, TaskCompletionSource go) : IDisposable
    {
        /// <summary>Attempt at the step.</summary>
        public long Attempt { get; } = attempt;

        /// <summary>Of a step of AdamW.</summary>
        public AdamWStep Rates { get; set; }

        /// <summary>Lets it go behind <paramref name="after"/> and waits as long as <paramref name="until"/> says.</summary>
        public async Task GoAsync(Task after, Func<JoinedBatch, Task> until)
        {
            await joined;
            await after;
            go.SetResult();
            if (batch is not null)
            {
                await until(batch);
            }
        }

        /// <summary>Forgets it, done or given up.</summary>
        public void Dispose()
        {
            if (batch is not null)
            {
                model.Close(batch);
            }
        }
    }
}
