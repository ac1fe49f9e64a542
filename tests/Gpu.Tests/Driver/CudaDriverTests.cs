using Krewe.Gpu.Compilation;
using Krewe.Gpu.Driver;
using Krewe.Model.Tensors;
using Xunit;

namespace Krewe.Gpu.Tests.Driver;

/// <summary>The object model on a card: every kind of object does what it says.</summary>
public sealed class CudaDriverTests : IDisposable
{
    private const string Source = """
        extern "C" __global__ void scale(float* values, int count, float factor) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < count) values[i] *= factor;
        }

        // Each block writes its rank in its cluster.
        extern "C" __global__ void ranks(int* ranks) {
            unsigned int rank;
            asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
            if (threadIdx.x == 0) ranks[blockIdx.x] = rank;
        }

        // One tile by the bulk copy engine, then to global memory.
        struct alignas(64) TensorMap { unsigned long long words[16]; };

        extern "C" __global__ void tile(const __grid_constant__ TensorMap map, int row, int column, float* out) {
            __shared__ alignas(128) float room[8][16];
            __shared__ alignas(8) unsigned long long barrier;
            unsigned int at = (unsigned int)__cvta_generic_to_shared(&barrier);
            unsigned int to = (unsigned int)__cvta_generic_to_shared(room);
            if (threadIdx.x == 0) {
                asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(at));
                asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(at), "r"(512) : "memory");
                asm volatile(
                    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                    " [%0], [%1, {%2, %3}], [%4];"
                    :: "r"(to), "l"(&map), "r"(column), "r"(row), "r"(at) : "memory");
                unsigned int done = 0;
                while (!done)
                    asm volatile(
                        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                        : "=r"(done) : "r"(at) : "memory");
            }
            __syncthreads();
            out[threadIdx.x] = room[threadIdx.x / 16][threadIdx.x % 16];
        }

        """;

    private readonly CudaContext _context;
    private readonly CudaStream _stream;
    private readonly CudaModule _module;

    public CudaDriverTests()
    {
        Card.Require();
        _context = new(0);
        _stream = new();
        var source = new KernelSource("DriverTests.cu", Source, new Dictionary<string, string>(), []);
        _module = new("DriverTests.cu", KernelCache.OfThisUser().GetOrCompile(source, new(_context.ComputeCapability)));
    }

    public void Dispose()
    {
        _module?.Dispose();
        _stream?.Dispose();
        _context?.Dispose();
    }

    [Fact]
    public void A_kernel_runs_between_two_copies()
    {
        using var values = new CudaDeviceVariable<float>(1000);
        float[] host = [.. Enumerable.Range(0, 1000).Select(i => (float)i)];
        values.CopyToDevice(host, _stream);
        Scale(values, 3);
        values.CopyToHost(host, _stream);
        Assert.Equal(Enumerable.Range(0, 1000).Select(i => i * 3f), host);
    }

    [Fact]
    public void Page_locked_memory_is_copied_in_stream_order()
    {
        using var host = new CudaPageLockedHostMemory<float>(256);
        using var values = new CudaDeviceVariable<float>(256);
        using var done = new CudaEvent();
        host.Span.Fill(2);
        _stream.Copy(host.Address, values.Address, values.Bytes);
        Scale(values, 4);
        _stream.Copy(values.Address, host.Address, values.Bytes);
        done.Record(_stream);
        done.Synchronize();
        Assert.True(done.IsDone && _stream.IsIdle);
        Assert.All(host.Span.ToArray(), value => Assert.Equal(8, value));
    }

    [Fact]
    public void A_graph_replays_what_was_recorded()
    {
        using var values = new CudaDeviceVariable<float>(64);
        float[] host = new float[64];
        Array.Fill(host, 1);
        values.CopyToDevice(host, _stream);
        _stream.BeginCapture();
        Scale(values, 2);
        Scale(values, 2);
        using CudaGraph graph = _stream.EndCapture();
        graph.Launch(_stream);
        graph.Launch(_stream);
        values.CopyToHost(host, _stream);
        Assert.All(host, value => Assert.Equal(16, value));
    }

    [Fact]
    public void Others_take_and_give_memory_while_a_thread_records()
    {
        using var pool = new CudaMemoryPool(_context);
        using var values = new CudaDeviceVariable<float>(64);
        float[] host = new float[64];
        Array.Fill(host, 1);
        values.CopyToDevice(host, _stream);
        nint before = pool.Allocate(1 << 20, _stream, "before");
        _stream.BeginCapture();
        Scale(values, 2);
        Exception? fault = null;
        var other = new Thread(() => fault = Record.Exception(() =>
        {
            _context.SetCurrent();
            Assert.False(_stream.IsCapturing);
            nint during = pool.Allocate(1 << 20, _stream, "during");
            _stream.Fill(during, 1, 1 << 20);
            Assert.True(pool.TryFree(before, _stream));
            Assert.True(pool.TryFree(during, _stream));
            _stream.Synchronize();
        }));
        other.Start();
        other.Join();
        Assert.True(_stream.IsCapturing);
        Scale(values, 2);
        using CudaGraph graph = _stream.EndCapture();
        Assert.Null(fault);
        Assert.False(_stream.IsCapturing);
        graph.Launch(_stream);
        values.CopyToHost(host, _stream);
        Assert.All(host, value => Assert.Equal(4, value));
    }

    [Fact]
    public void Streams_wait_for_each_others_events_and_are_timed()
    {
        using var other = new CudaStream(CudaStream.Priorities().Greatest);
        using var start = new CudaEvent(timing: true);
        using var end = new CudaEvent(timing: true);
        using var values = new CudaDeviceVariable<float>(1 << 20);
        values.CopyToDevice(new float[1 << 20], _stream);
        start.Record(_stream);
        Scale(values, 2);
        end.Record(_stream);
        other.WaitFor(end);
        other.Fill(values.Address, 0xff, values.Bytes);
        other.Synchronize();
        Assert.True(start.ElapsedMilliseconds(end) > 0);
        float[] host = new float[1 << 20];
        values.CopyToHost(host, other);
        Assert.True(float.IsNaN(host[12345]));
    }

    [Fact]
    public void A_pool_hands_out_again_what_was_freed()
    {
        using var pool = new CudaMemoryPool(_context);
        nint first = pool.Allocate(1 << 20, _stream, "test");
        Assert.Equal(1 << 20, pool.UsedBytes);
        Assert.True(pool.TryFree(first, _stream));
        nint second = pool.Allocate(1 << 20, _stream, "test");
        Assert.Equal(first, second);
        Assert.True(pool.TryFree(second, _stream));
        _stream.Synchronize();
        pool.Trim();
        Assert.Equal(0, pool.ReservedBytes);
    }

    [Fact]
    public void Out_of_memory_names_who_asked_for_how_much()
    {
        using var pool = new CudaMemoryPool(_context);
        nint weights = pool.Allocate(1 << 20, _stream, "weights");
        CudaException exception = Assert.Throws<CudaException>(() => pool.Allocate(1L << 42, _stream, "optimizer"));
        Assert.Contains("CUDA_ERROR_OUT_OF_MEMORY", exception.Message, StringComparison.Ordinal);
        Assert.Contains(
            "'optimizer' asked for 4,398,046,511,104 bytes on cuda:0", exception.Message, StringComparison.Ordinal);
        Assert.Contains("of which in use: weights 1,048,576", exception.Message, StringComparison.Ordinal);
        Assert.True(pool.TryFree(weights, _stream));
        exception = Assert.Throws<CudaException>(() => new CudaDeviceVariable<byte>(1L << 42, "workspace"));
        Assert.Contains("'workspace' asked for 4,398,046,511,104 bytes; the device has", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Blocks_of_a_cluster_know_their_rank()
    {
        Assert.SkipWhen(_context.ComputeCapability.Major < 9, "clusters need compute capability 9.0");
        using var ranks = new CudaDeviceVariable<int>(8);
        KernelArguments arguments = new();
        arguments.Add(ranks.Address);
        _module.Kernel("ranks").Launch(_stream, new(new(8), new(32), Cluster: new(4)), ref arguments);
        int[] host = new int[8];
        ranks.CopyToHost(host, _stream);
        Assert.Equal([0, 1, 2, 3, 0, 1, 2, 3], host);
    }

    [Fact]
    public void A_tensor_map_brings_the_tile_it_describes()
    {
        Assert.SkipWhen(_context.ComputeCapability.Major < 9, "tensor maps need compute capability 9.0");
        using var matrix = new CudaDeviceVariable<float>(20 * 36);
        using var tile = new CudaDeviceVariable<float>(128);
        matrix.CopyToDevice([.. Enumerable.Range(0, 20 * 36).Select(i => (float)i)], _stream);
        var map = new CudaTensorMap(new Tensor(matrix.Address, new TensorShape(20, 33), rowStride: 36), 8, 16);
        KernelArguments arguments = new();
        arguments.Add(map);
        arguments.Add(15);
        arguments.Add(24);
        arguments.Add(tile.Address);
        _module.Kernel("tile").Launch(_stream, new(new(1), new(128)), ref arguments);
        float[] host = new float[128];
        tile.CopyToHost(host, _stream);
        for (int i = 0; i < 128; i++)
        {
            int row = 15 + (i / 16), column = 24 + (i % 16);
            Assert.Equal(row < 20 && column < 33 ? (row * 36) + column : 0, host[i]);
        }
    }

    [Fact]
    public void A_refused_launch_names_kernel_and_shape()
    {
        CudaException exception = Assert.Throws<CudaException>(() => Launch(2048));
        Assert.Equal("scale", exception.Kernel);
        Assert.Contains("cuLaunchKernelEx failed: CUDA_ERROR_INVALID_VALUE (1); kernel 'scale', grid 1, block 2048",
            exception.Message, StringComparison.Ordinal);
        exception = Assert.Throws<CudaException>(() => _module.Kernel("absent"));
        Assert.Contains("no kernel 'absent' in 'DriverTests.cu'", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_product_of_the_library_is_close_to_the_hosts()
    {
        Assert.SkipWhen(CudaProbe.Run().CublasLt is null, "needs cuBLASLt");
        var random = new Random(5);
        float[] a = [.. Enumerable.Range(0, 32 * 64).Select(_ => (float)random.NextDouble() - 0.5f)];
        float[] b = [.. Enumerable.Range(0, 48 * 64).Select(_ => (float)random.NextDouble() - 0.5f)];
        using var input = new CudaDeviceVariable<float>(a.Length);
        using var weight = new CudaDeviceVariable<float>(b.Length);
        using var output = new CudaDeviceVariable<float>(32 * 48);
        input.CopyToDevice(a, _stream);
        weight.CopyToDevice(b, _stream);
        Tensor x = new(input.Address, new TensorShape(32, 64));
        Tensor w = new(weight.Address, new TensorShape(48, 64));
        Tensor y = new(output.Address, new TensorShape(32, 48));
        using var library = new CublasLt();
        library.Multiply(_stream, x, false, w, false, y);
        float[] c = new float[32 * 48];
        output.CopyToHost(c, _stream);
        for (int i = 0; i < c.Length; i++)
        {
            double expected = Enumerable.Range(0, 64).Sum(d => (double)a[(i / 48 * 64) + d] * b[(i % 48 * 64) + d]);
            Assert.Equal(expected, c[i], 1e-4);
        }
    }

    private void Launch(uint threads)
    {
        KernelArguments arguments = new();
        arguments.Add((nint)0);
        arguments.Add(0);
        arguments.Add(1f);
        _module.Kernel("scale").Launch(_stream, new(new(1), new(threads)), ref arguments);
    }

    private void Scale(CudaDeviceVariable<float> values, float factor)
    {
        KernelArguments arguments = new();
        arguments.Add(values.Address);
        arguments.Add((int)values.Count);
        arguments.Add(factor);
        _module.Kernel("scale").Launch(
            _stream, new(new(Dim3.Cover(values.Count, 256)), new(256)), ref arguments);
    }
}
