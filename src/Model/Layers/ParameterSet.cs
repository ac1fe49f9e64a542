using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// The parameters of one owner (a stage or an expert) with their gradients and optimizer state, each kind in an arena
/// of its own.
/// </summary>
/// <remarks>
/// Gradients may have two banks, one for even and one for odd micro-batches, that are summed at the end of a step. A
/// bidirectional pipeline needs them: the two copies of a stage each see one half of the micro-batches. All schedules
/// use them, so that all of them add the same numbers in the same order (docs/decisions/0006).
/// </remarks>
/// <param name="device">Where the memory lives.</param>
/// <param name="owner">Name of the owner, for the memory report.</param>
/// <param name="gradientBanks">1, or 2 to accumulate even and odd micro-batches apart.</param>
/// <param name="keepsMasters">
/// False where matrices whose products read a rounded copy are kept as that copy alone, for inference.
/// </param>
public sealed class ParameterSet(
    IDevice device, string owner, int gradientBanks = 1, bool keepsMasters = true) : IDisposable
{
    /// <summary>Gradients of a bank begin on multiples of this many elements: 64 bytes, as an arena's tensors do.</summary>
    private const int Alignment = 16;

    private readonly Arena _values = device.CreateArena($"{owner} parameters");
    private readonly List<Parameter> _parameters = [];
    private readonly Dictionary<string, Parameter> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Linear> _linears = new(StringComparer.Ordinal);
    private readonly Dictionary<string, WeightCast> _mastersGone = new(StringComparer.Ordinal);
    private Tensor[] _banks = [];
    private int _selected;
    private int _owners = 1;
    private Arena? _gradients;
    private Arena? _moments;
    private Arena? _casts;
    private int _appliedStep;
    private bool _merged = true;

    /// <summary>The parameters in the order in which they were added.</summary>
    public IReadOnlyList<Parameter> All => _parameters;

    /// <summary>True once gradients and moments exist.</summary>
    public bool IsTrainable => _gradients is not null;

    /// <summary>Number of elements of all parameters.</summary>
    public long Count => _parameters.Sum(parameter => parameter.Shape.Count);

    /// <summary>
    /// Number of the last optimizer step that was applied; 0 for none. To be set by whoever has written values, for casts
    /// in lower precision are made anew then.
    /// </summary>
    public int AppliedStep
    {
        get => _appliedStep;
        set
        {
            _appliedStep = value;
            Version++;
        }
    }

    /// <summary>Rises with every change of the values.</summary>
    internal int Version { get; private set; }

    /// <summary>
    /// Gradients of every parameter, one flat tensor per bank; empty unless prepared for training. Whoever asks may write.
    /// </summary>
    public IReadOnlyList<Tensor> GradientBanks
    {
        get
        {
            _merged = false;
            return _banks;
        }
    }

    /// <summary>
    /// Makes another owner of the same parameters, such as a stage's copy for the other direction on the same device:
    /// what it adds is already here.
    /// </summary>
    public ParameterSet Share()
    {
        _owners++;
        return this;
    }

    /// <summary>Adds an uninitialised parameter, or finds it where the set is shared.</summary>
    public Parameter Add(string name, TensorShape shape)
    {
        if (_owners > 1)
        {
            return _byName[name];
        }

        return Keep(new(name, _values.Allocate(shape)));
    }

    /// <summary>Adds an uninitialised matrix with its products, or finds it where the set is shared.</summary>
    /// <param name="name">Checkpoint name.</param>
    /// <param name="shape">[N, D].</param>
    /// <param name="precision">Of its products.</param>
    /// <param name="absorbed">True where attention also takes it in its absorbed form.</param>
    public Linear AddLinear(string name, TensorShape shape, ProductPrecision precision, bool absorbed = false)
    {
        if (_linears.TryGetValue(name, out Linear? linear))
        {
            return linear;
        }

        bool rounds = precision.Operand != DType.Float32;
        Parameter weight = rounds && !keepsMasters ? Keep(new(name, shape)) : Add(name, shape);
        WeightCast? cast = null;
        if (rounds)
        {
            _casts ??= device.CreateArena($"{owner} casts");
            cast = new(weight, this, _casts, precision, absorbed);
            weight.Cast = cast;
            if (!keepsMasters)
            {
                _mastersGone.Add(name, cast);
            }
        }

        linear = new(weight, precision, cast);
        _linears.Add(name, linear);
        return linear;
    }

    /// <summary>The parameter of that name, or null.</summary>
    public Parameter? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>
    /// Reads every value; to be called inside submitted work. A matrix without a master passes through memory that is
    /// given back afterwards.
    /// </summary>
    public void Read(IKernels kernels, IParameterSource source)
    {
        using Arena? passing = _mastersGone.Count > 0 ? device.CreateArena($"{owner}, weights on their way") : null;
        foreach (Parameter parameter in _parameters)
        {
            if (_mastersGone.TryGetValue(parameter.Name, out WeightCast? cast))
            {
                passing!.Reset();
                Tensor master = passing.Allocate(parameter.Shape);
                source.Read(kernels, parameter.Name, master);
                cast.Take(kernels, master);
            }
            else
            {
                source.Read(kernels, parameter.Name, parameter.Value);
            }
        }
    }

    /// <summary>Allocates gradients and moments, all zero. Does nothing the second time.</summary>
    /// <param name="kernels">Kernels of the device, called from its thread.</param>
    /// <param name="momentType">Float32 or BFloat16.</param>
    public void PrepareForTraining(IKernels kernels, DType momentType)
    {
        if (_gradients is not null)
        {
            return;
        }

        if (_mastersGone.Count > 0)
        {
            throw new InvalidOperationException(
                $"{owner}: '{_mastersGone.Keys.First()}' has no master: the model was loaded for inference");
        }

        _gradients = device.CreateArena($"{owner} gradients");
        _moments = device.CreateArena($"{owner} moments");
        long length = _parameters.Sum(parameter => Aligned(parameter.Value.Count));
        _banks = [.. Enumerable.Range(0, gradientBanks).Select(_ => _gradients.Allocate(TensorShape.Of([length])))];
        foreach (Parameter parameter in _parameters)
        {
            parameter.FirstMoment = _moments.Allocate(parameter.Shape, momentType);
            parameter.SecondMoment = _moments.Allocate(parameter.Shape, momentType);
        }

        ResetMoments(kernels);
        ZeroGradients(kernels);
        Select(0);
    }

    /// <summary>Sets AdamW's moments to zero: the parameters begin anew.</summary>
    public void ResetMoments(IKernels kernels)
    {
        foreach (Parameter parameter in _parameters)
        {
            kernels.Fill(parameter.FirstMoment, 0);
            kernels.Fill(parameter.SecondMoment, 0);
        }
    }

    /// <summary>
    /// Chooses the bank that a micro-batch's weight gradients are added to; to be called in the same submission as the
    /// additions.
    /// </summary>
    public void SelectGradients(long slot)
    {
        int bank = (int)(slot % gradientBanks);
        _merged &= bank == 0;
        if (bank != _selected && _banks.Length > 1)
        {
            Select(bank);
        }
    }

    /// <summary>
    /// Sums the banks into the first and selects it, where anything was added to another since the last time.
    /// </summary>
    public void MergeGradients(IKernels kernels)
    {
        SelectGradients(0);
        if (_merged)
        {
            return;
        }

        _merged = true;
        foreach (Tensor bank in _banks.Skip(1))
        {
            kernels.Add(bank, _banks[0]);
            kernels.Fill(bank, 0);
        }
    }

    /// <summary>Sets every gradient to zero.</summary>
    public void ZeroGradients(IKernels kernels)
    {
        foreach (Tensor bank in _banks)
        {
            kernels.Fill(bank, 0);
        }
    }

    /// <summary>Frees values, gradients and moments when the last owner disposes the set.</summary>
    public void Dispose()
    {
        if (--_owners > 0)
        {
            return;
        }

        _values.Dispose();
        _gradients?.Dispose();
        _moments?.Dispose();
        _casts?.Dispose();
    }

    private Parameter Keep(Parameter parameter)
    {
        _byName.Add(parameter.Name, parameter);
        _parameters.Add(parameter);
        return parameter;
    }

    private static long Aligned(long count) => (count + Alignment - 1) / Alignment * Alignment;

    private void Select(int bank)
    {
        long start = 0;
        foreach (Parameter parameter in _parameters)
        {
            int count = checked((int)parameter.Value.Count);
            parameter.Gradient = _banks[bank].SliceElements(start, count).Reshape(parameter.Shape);
            start += Aligned(count);
        }

        _selected = bank;
    }
}
