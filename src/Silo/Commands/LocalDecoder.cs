using Krewe.Model.Generation;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Silo.Commands;

/// <summary>A session on the stages of a model of this process, without a cluster.</summary>
/// <param name="model">The model.</param>
internal sealed class LocalDecoder(LocalModel model) : IDecoder
{
    private const long Session = 0;

    /// <inheritdoc/>
    public Task OpenAsync(int[] capacities)
    {
        foreach (ModelStage stage in model.Stages)
        {
            stage.OpenSession(Session, capacities);
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<int[]> StepAsync(DecodeStep step)
    {
        var result = new DecodeResult(default, []);
        foreach (ModelStage stage in model.Stages)
        {
            result = await stage.DecodeAsync(Session, step, result.Hidden);
        }

        return result.Tokens;
    }

    /// <inheritdoc/>
    public async Task CloseAsync()
    {
        foreach (ModelStage stage in model.Stages)
        {
            await stage.ReleaseAsync(Session);
        }
    }
}
