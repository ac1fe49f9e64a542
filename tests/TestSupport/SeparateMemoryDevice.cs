using System.Buffers;
using System.Runtime.InteropServices;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.TestSupport;

/// <summary>
/// A device whose memory the host cannot reach, as a GPU's, on a machine without one: its tensors throw where the host
/// reads or writes them, what is read is a copy, and what is copied to the host is there only once the work is done.
/// </summary>
/// <param name="inner">Computes; in host memory. Disposed with this device.</param>
/// <param name="direct">
/// Copies from another such device's memory itself, as between two GPUs that reach each other.
/// </param>
public sealed class SeparateMemoryDevice(IDevice inner, bool direct = false) : IDevice
{
    private readonly SeparateKernels _kernels = new(inner.Kernels);
    private long _reservedBytes;
    private int _repetitions;

    public string Name => $"separate {inner.Name}";

    public IKernels Kernels => _kernels;

    public string MemorySpace => Name;

    public long ReservedBytes => Interlocked.Read(ref _reservedBytes);

    public DeviceLoss Loss => inner.Loss;

    public Arena CreateArena(string name) =>
        new SeparateArena($"{Name}/{name}", bytes => Interlocked.Add(ref _reservedBytes, bytes));

    public Arena CreateHostArena(string name) => new HostArena($"{Name}/{name}, on the host");

    /// <summary>Runs of repeated work so far.</summary>
    public int Repetitions => Volatile.Read(ref _repetitions);

    public RepeatedWork Repeat(Action<IKernels> work) => new Repetition(this, work);

    public Task SubmitAsync(Action<IKernels> work, WorkPriority priority = default) => inner.SubmitAsync(
        _ =>
        {
            work(_kernels);
            _kernels.Finish();
        },
        priority);

    public Task SubmitAsync<TState>(
        Action<IKernels, TState> work, TState state, WorkPriority priority = default) =>
        SubmitAsync(kernels => work(kernels, state), priority);

    public Task? TryCopyFrom(IDevice source, Tensor from, Tensor to) => direct && source is SeparateMemoryDevice
        ? SubmitAsync(kernels =>
        {
            for (int row = 0; row < from.Rows; row++)
            {
                kernels.Transfer(from.SliceRows(row, 1), to.SliceRows(row, 1));
            }
        })
        : null;

    public void Dispose()
    {
        inner.Dispose();
        _kernels.Dispose();
    }

    private sealed class Repetition(SeparateMemoryDevice device, Action<IKernels> work) : RepeatedWork
    {
        public override Task RunAsync(
            Action<IKernels> before, Action<IKernels> after, int times = 1, WorkPriority priority = default)
        {
            Interlocked.Add(ref device._repetitions, times);
            return device.SubmitAsync(
                kernels =>
                {
                    before(kernels);
                    for (int i = 0; i < times; i++)
                    {
                        work(kernels);
                    }

                    after(kernels);
                },
                priority);
        }
    }

    private sealed unsafe class SeparateArena(string name, Action<long> reservedChanged)
        : BlockArena(name, 16 << 10, 4 << 20, 64, reservedChanged)
    {
        protected override bool OnHost => false;

        protected override nint TakeBlock(long bytes) => (nint)NativeMemory.AlignedAlloc((nuint)bytes, (nuint)Alignment);

        protected override void GiveBlock(nint address) => NativeMemory.AlignedFree((void*)address);
    }

    private sealed class SeparateKernels(IKernels inner) : ForwardingKernels(inner), IDisposable
    {
        private readonly HostArena _onItsWay = new("on its way to the host");
        private readonly List<(Tensor Source, Tensor Destination)> _toHost = [];

        /// <summary>As a GPU: layers go the ways that save passes there.</summary>
        public override bool MakesTiledGradients => true;

        public override void Write<TState>(Tensor destination, TState state, SpanAction<float, TState> fill)
        {
            var values = new float[destination.Count];
            fill(values, state);
            Inner.Upload<float>(values, destination);
        }

        public override ReadOnlySpan<T> Read<T>(Tensor source)
        {
            using var arena = new HostArena("read");
            Tensor copy = arena.Allocate(source.Shape, source.DType);
            Inner.Transfer(source, copy);
            return copy.AsSpan<T>().ToArray();
        }

        public override void Transfer(Tensor source, Tensor destination)
        {
            if (destination.OnHost)
            {
                // From a copy: later kernels of the same work may overwrite the source.
                Tensor copy = _onItsWay.Allocate(source.Shape, source.DType);
                Inner.Transfer(source, copy);
                _toHost.Add((copy, destination));
                return;
            }

            Inner.Transfer(source, destination);
        }

        public void Dispose() => _onItsWay.Dispose();

        /// <summary>The work's kernels are done.</summary>
        public void Finish()
        {
            foreach ((Tensor source, Tensor destination) in _toHost)
            {
                Inner.Transfer(source, destination);
            }

            _toHost.Clear();
            _onItsWay.Reset();
        }
    }
}
