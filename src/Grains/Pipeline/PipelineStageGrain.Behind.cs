using Krewe.Grains.Devices;
using Krewe.Model.Layers;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Pipeline;

/// <content>Calls that end when their works were launched, and what is asked of those later (docs/decisions/0017).</content>
public sealed partial class PipelineStageGrain
{
    /// <inheritdoc/>
    public async Task<StageReport> ReportAsync(StepCall call)
    {
        using StepGate.Entry entry = Model.Gate.Enter(call.Attempt);
        return await Hosted.TakeReport(call.Slot);
    }

    /// <summary>
    /// A call may fail for what work has left undone behind which it went on: then the fault of that is told.
    /// </summary>
    private async Task TellAsync(Task computed)
    {
        try
        {
            await computed;
        }
        catch
        {
            await Model.Behind.EndedAsync();
            throw;
        }
    }

    /// <inheritdoc cref="TellAsync(Task)"/>
    private async Task<StageActivations> TellAsync(Task<StageActivations> computed)
    {
        await TellAsync((Task)computed);
        return await computed;
    }

    /// <summary>Keeps works that the call does not wait for.</summary>
    private void GoOn(SubmittedWorks? behind, StepGate.Entry entry)
    {
        if (behind is not null)
        {
            Model.Behind.Add(behind.DoneAsync(), entry.Again());
        }
    }

    private static async Task<StageReport> ReadAsync(ForwardReport told, SubmittedWorks behind, double waited)
    {
        await behind.DoneAsync();
        return Read(told, waited);
    }

    private static StageReport Read(ForwardReport told, double waited)
    {
        var report = new StageReport(told.Losses(), [.. told.Loads()], waited, Delivers: false);
        told.GiveBack();
        return report;
    }
}
