namespace Krewe.Model.Training;

/// <summary>A pipeline whose tensors can be read by name, for checks and checkpoints.</summary>
public interface IInspectable : ITrainingPipeline
{
    /// <summary>
    /// An activation of a slot's last forward under the name that reference files use, or null where the model has none
    /// (see <c>ModelStage.Activation</c>). Int32 tensors come as their values.
    /// </summary>
    Task<float[]?> ReadActivationAsync(long slot, string name);

    /// <summary>A parameter, or a routing bias, by checkpoint name.</summary>
    Task<float[]> ReadParameterAsync(string name);

    /// <summary>The accumulated gradient of a parameter by checkpoint name.</summary>
    Task<float[]> ReadGradientAsync(string name);
}
