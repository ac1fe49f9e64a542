using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>What a <see cref="LosingDevice"/> is doing when it is lost.</summary>
public enum LosingMoment
{
    /// <summary>The products of experts, forward.</summary>
    Forward,

    /// <summary>Their weight gradients.</summary>
    BackwardWeight,

    /// <summary>A parameter is updated.</summary>
    Apply,

    /// <summary>A state is copied to the host, for a snapshot or a checkpoint.</summary>
    ToHost,
}

/// <summary>
/// A device that is lost in the middle of a work of a kind that is asked for, as a GPU is whose kernel ran wild, that
/// refuses such a work as one that is short of memory, or on which it fails once its kernels were called; computes as
/// another one until then.
/// </summary>
/// <param name="inner">Computes; disposed with this device.</param>
public sealed class LosingDevice(IDevice inner) : IDevice
{
    private readonly LosingKernels _kernels = new(inner.Kernels, inner.Loss);

    public string Name => inner.Name;

    public IKernels Kernels => _kernels;

    public string MemorySpace => inner.MemorySpace;

    public long ReservedBytes => inner.ReservedBytes;

    public DeviceLoss Loss => inner.Loss;

    /// <summary>The next work of this kind loses the device.</summary>
    public void LoseAt(LosingMoment moment) => _kernels.Moment = moment;

    /// <summary>The next work of this kind fails with the exception and leaves the device as it is.</summary>
    public void RefuseAt(LosingMoment moment, Exception refusal)
    {
        _kernels.Refusal = refusal;
        _kernels.Moment = moment;
    }

    /// <summary>
    /// The next work of this kind ends with the exception after its kernels were called, when whoever waits for its launch
    /// alone has gone on.
    /// </summary>
    /// <returns>Completes when it has.</returns>
    public Task FailBehind(LosingMoment moment, Exception fault) => _kernels.FailBehind(moment, fault);

    public Arena CreateArena(string name) => inner.CreateArena(name);

    public Arena CreateHostArena(string name) => inner.CreateHostArena(name);

    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default) =>
        inner.SubmitAsync(
            _ =>
            {
                work(_kernels);
                _kernels.End();
            },
            priority);

    public Task SubmitAsync<TState>(Action<IKernels, TState> work, TState state, WorkPriority priority = default) =>
        SubmitAsync(kernels => work(kernels, state), priority);

    public Task? TryCopyFrom(IDevice source, Tensor from, Tensor to) =>
        inner.TryCopyFrom(source is LosingDevice other ? other.Inner : source, from, to);

    public void Dispose() => inner.Dispose();

    private IDevice Inner => inner;

    private sealed class LosingKernels(IKernels inner, DeviceLoss loss) : ForwardingKernels(inner)
    {
        private volatile object? _moment;
        private Behind? _behind;
        private bool _due;

        public LosingMoment Moment { set => _moment = value; }

        public Exception? Refusal { get; set; }

        public Task FailBehind(LosingMoment moment, Exception fault)
        {
            var behind = new Behind(fault);
            (_behind, _moment) = (behind, moment);
            return behind.Task;
        }

        /// <summary>A work has called its kernels.</summary>
        public void End()
        {
            if (_due && _behind is { } behind)
            {
                (_due, _behind) = (false, null);
                behind.SetResult();
                throw behind.Fault;
            }
        }

        public override void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
        {
            Reached(LosingMoment.Forward);
            base.GroupedLinear(products);
        }

        public override void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
        {
            Reached(LosingMoment.BackwardWeight);
            base.GroupedLinearBackwardWeight(products);
        }

        public override void Transfer(Tensor source, Tensor destination)
        {
            if (!source.OnHost && destination.OnHost)
            {
                Reached(LosingMoment.ToHost);
            }

            base.Transfer(source, destination);
        }

        public override void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step)
        {
            Reached(LosingMoment.Apply);
            base.AdamW(parameters, step);
        }

        private void Reached(LosingMoment moment)
        {
            if (_moment is LosingMoment wanted && wanted == moment)
            {
                _moment = null;
                if (_behind is not null)
                {
                    _due = true;
                    return;
                }

                throw Refusal
                    ?? loss.Report("Synchronize", $"Synchronize gave TEST_LOST (700) while it did '{moment}'");
            }
        }

        private sealed class Behind(Exception fault)
            : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
        {
            public Exception Fault => fault;
        }
    }
}
