using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The parameters of one owner (a stage or an expert) with their gradients and optimizer state, each kind in an arena
/// of its own.
/// </summary>
/// <param name="device">Where the memory lives.</param>
/// <param name="owner">Name of the owner, for the memory report.</param>
public sealed class ParameterSet(IDevice device, string owner) : IDisposable
{
    private readonly Arena _values = device.CreateArena($"{owner} parameters");
    private readonly List<Parameter> _parameters = [];
    private readonly Dictionary<string, Parameter> _byName = new(StringComparer.Ordinal);
    private Arena? _gradients;
    private Arena? _moments;

    /// <summary>The parameters in the order in which they were added.</summary>
    public IReadOnlyList<Parameter> All => _parameters;

    /// <summary>True once gradients and moments exist.</summary>
    public bool IsTrainable => _gradients is not null;

    /// <summary>Number of elements of all parameters.</summary>
    public long Count => _parameters.Sum(parameter => parameter.Value.Count);

    /// <summary>Adds an uninitialised parameter.</summary>
    public Parameter Add(string name, TensorShape shape)
    {
        var parameter = new Parameter(name, _values.Allocate(shape));
        _byName.Add(name, parameter);
        _parameters.Add(parameter);
        return parameter;
    }

    /// <summary>The parameter of that name, or null.</summary>
    public Parameter? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Allocates gradients and moments, all zero. Does nothing the second time.</summary>
    /// <param name="kernels">Kernels of the device, called from its thread.</param>
    /// <param name="momentType">Float32 or BFloat16.</param>
    public void PrepareForTraining(IKernels kernels, DType momentType)
    {
        if (_gradients is not null)
        {
            return;
        }

        _gradients = device.CreateArena($"{owner} gradients");
        _moments = device.CreateArena($"{owner} moments");
        foreach (Parameter parameter in _parameters)
        {
            parameter.Gradient = _gradients.Allocate(parameter.Shape);
            parameter.FirstMoment = _moments.Allocate(parameter.Shape, momentType);
            parameter.SecondMoment = _moments.Allocate(parameter.Shape, momentType);
            kernels.Fill(parameter.Gradient, 0);
            kernels.Fill(parameter.FirstMoment, 0);
            kernels.Fill(parameter.SecondMoment, 0);
        }
    }

    /// <summary>Sets every gradient to zero.</summary>
    public void ZeroGradients(IKernels kernels)
    {
        foreach (Parameter parameter in _parameters)
        {
            kernels.Fill(parameter.Gradient, 0);
        }
    }

    /// <summary>Frees values, gradients and moments.</summary>
    public void Dispose()
    {
        _values.Dispose();
        _gradients?.Dispose();
        _moments?.Dispose();
    }
}
