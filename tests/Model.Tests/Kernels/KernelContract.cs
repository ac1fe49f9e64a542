using System.Runtime.InteropServices;
using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels;

/// <summary>
/// What every backend must do. Bind it by deriving a class that gives <see cref="Kernels"/>; a backend whose memory the
/// host cannot reach overrides the arena and the two copies as well.
/// </summary>
public abstract unsafe partial class KernelContract : IDisposable
{
    private static readonly ReferenceKernels _reference = new();

    private readonly HostArena _results = new("contract results");
    private Arena? _device;

    /// <summary>The backend under test.</summary>
    protected abstract IKernels Kernels { get; }

    /// <summary>Seeded data in host memory; every test starts with the same seed.</summary>
    protected TestTensors Data { get; } = new(20_260_101);

    /// <summary>Bound on matrix products; the contract fixes their order of sums, so the bits agree.</summary>
    protected virtual double ProductTolerance => 0;

    /// <summary>The same for bfloat16 operands, which tensor cores add up in an order of their own.</summary>
    protected virtual double BFloat16ProductTolerance => ProductTolerance;

    /// <summary>Bound on everything that calls exp or sums in an order of the backend's own.</summary>
    protected virtual double Tolerance => TensorAssert.Tolerance(DType.Float32);

    /// <summary>Bound on drawn values: the same but for the logarithm and the sine of the backend's float64.</summary>
    protected virtual double NormalTolerance => 0;

    /// <summary>Memory that the backend computes in.</summary>
    protected virtual Arena CreateArena() => new HostArena("contract device");

    /// <summary>Runs work where the kernels may be called, and waits for it.</summary>
    protected virtual void Submit(Action<IKernels> work) => work(Kernels);

    /// <summary>Copies a contiguous host tensor to the backend's memory.</summary>
    protected virtual void Upload(Tensor host, Tensor device) => CopyBytes(host, device);

    /// <summary>Copies a contiguous tensor of the backend to host memory.</summary>
    protected virtual void Download(Tensor device, Tensor host) => CopyBytes(device, host);

    /// <inheritdoc/>
    public void Dispose()
    {
        Data.Dispose();
        _results.Dispose();
        _device?.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>
    /// Runs the call by the oracle and twice by the backend, each on fresh copies of the tensors, and compares every
    /// tensor: values within tolerance, gaps and guards untouched, the second run equal to the first bit by bit.
    /// </summary>
    private void Compare(
        string context, double tolerance, Action<IKernels, Tensor[]> call, params Tensor[] tensors)
        => Compare(
            context,
            (expected, actual, name) =>
            {
                double own = TensorAssert.Tolerance(expected.DType);
                bool exact = tolerance == 0 || expected.DType == DType.Int32;
                TensorAssert.Close(expected, actual, exact ? 0 : Math.Max(tolerance, own), name);
            },
            call, tensors);

    /// <summary>The same with values compared by <paramref name="agree"/>: expected, actual, name.</summary>
    private void Compare(
        string context, Action<Tensor, Tensor, string> agree, Action<IKernels, Tensor[]> call,
        params Tensor[] tensors)
    {
        _results.Reset();
        Tensor[] expected = Array.ConvertAll(tensors, tensor => Clone(tensor));
        call(_reference, expected);
        Tensor[] actual = RunOnDevice(call, tensors);
        Tensor[] again = RunOnDevice(call, tensors);
        for (int i = 0; i < tensors.Length; i++)
        {
            if (tensors[i].IsEmpty)
            {
                continue;
            }

            string name = $"{context}, tensor {i}";
            agree(expected[i], actual[i], name);
            AssertGapsUntouched(tensors[i], actual[i], name);
            TensorAssert.Same(TestTensors.Whole(actual[i]), TestTensors.Whole(again[i]), name + ", second run");
        }
    }

    /// <summary>Runs the call on copies in the backend's memory and gives the tensors as they are afterwards.</summary>
    private Tensor[] RunOnDevice(Action<IKernels, Tensor[]> call, Tensor[] tensors)
    {
        _device ??= CreateArena();
        _device.Reset();
        Tensor[] device = Array.ConvertAll(tensors, UploadTwin);
        Submit(kernels => call(kernels, device));
        return DownloadAll(device);
    }

    /// <summary>The call fails with both shapes in the message and writes nothing.</summary>
    private void AssertRejected(string context, Action<IKernels, Tensor[]> call, params Tensor[] tensors)
    {
        _results.Reset();
        _device ??= CreateArena();
        _device.Reset();
        Tensor[] device = Array.ConvertAll(tensors, UploadTwin);
        ArgumentException exception = Assert.ThrowsAny<ArgumentException>(
            () => Submit(kernels => call(kernels, device)));
        Assert.True(
            exception.Message.Contains("expected", StringComparison.Ordinal)
            && exception.Message.Contains("got", StringComparison.Ordinal),
            $"{context}: '{exception.Message}' does not name expected and actual");
        Tensor[] after = DownloadAll(device);
        for (int i = 0; i < tensors.Length; i++)
        {
            if (!tensors[i].IsEmpty)
            {
                TensorAssert.Same(
                    TestTensors.Whole(tensors[i]), TestTensors.Whole(after[i]), $"{context}, tensor {i}");
            }
        }
    }

    private Tensor UploadTwin(Tensor host)
    {
        Tensor twin = TestTensors.Twin(host, _device!);
        if (!host.IsEmpty)
        {
            Upload(TestTensors.Whole(host), TestTensors.Whole(twin));
        }

        return twin;
    }

    private Tensor[] DownloadAll(Tensor[] device) => Array.ConvertAll(device, tensor =>
    {
        Tensor host = TestTensors.Twin(tensor, _results);
        if (!tensor.IsEmpty)
        {
            Download(TestTensors.Whole(tensor), TestTensors.Whole(host));
        }

        return host;
    });

    private Tensor Clone(Tensor tensor)
    {
        Tensor twin = TestTensors.Twin(tensor, _results);
        if (!tensor.IsEmpty)
        {
            CopyBytes(TestTensors.Whole(tensor), TestTensors.Whole(twin));
        }

        return twin;
    }

    private static void AssertGapsUntouched(Tensor before, Tensor after, string context)
    {
        Tensor wholeBefore = TestTensors.Whole(before);
        Tensor wholeAfter = TestTensors.Whole(after);
        int last = before.Rows * before.RowStride;
        TensorAssert.Same(
            wholeBefore.SliceColumns(last, wholeBefore.Columns - last),
            wholeAfter.SliceColumns(last, wholeBefore.Columns - last), context + ", behind the last row");
        int gap = before.RowStride - before.Columns;
        for (int row = 0; gap > 0 && row < before.Rows; row++)
        {
            int start = (row * before.RowStride) + before.Columns;
            TensorAssert.Same(
                wholeBefore.SliceColumns(start, gap), wholeAfter.SliceColumns(start, gap),
                $"{context}, gap of row {row}");
        }
    }

    private static void CopyBytes(Tensor source, Tensor destination)
        => NativeMemory.Copy(
            (void*)source.Address, (void*)destination.Address,
            (nuint)(source.Count * source.DType.SizeInBytes()));
}
