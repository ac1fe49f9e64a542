using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;

namespace Krewe.Kernels;

/// <summary>The measured cases: large products, expert-sized ones, attention, decoding, optimizer.</summary>
internal sealed class KernelCases : IDisposable
{
    private readonly HostArena _arena = new("benchmark");

    public void Run(ComputePool one, ComputePool two, double peak, int repetitions, string filter)
    {
        foreach (ComputePool pool in (ComputePool[])[one, two])
        {
            CpuKernels kernels = new(pool);
            void Case(string name, double work, string unit, Action action)
            {
                if (!name.Contains(filter, StringComparison.Ordinal))
                {
                    return;
                }

                Timing timing = Timing.Of(pool, repetitions, action);
                double rate = work / timing.Median / 1e9;
                Report.Row(
                    name, pool.Threads, timing, unit switch { "tok/s" => rate * 1e9, "M/s" => rate * 1e12, _ => rate }, unit,
                    unit == "GFLOP/s" ? rate / peak : null);
            }

            Loops(pool, Case);
            Products(kernels, Case);
            _arena.Reset();
            Experts(kernels, Case);
            _arena.Reset();
            Attention(kernels, Case);
            _arena.Reset();
            Decode(kernels, Case);
            _arena.Reset();
            Elementwise(kernels, Case);
        }
    }

    public void Dispose() => _arena.Dispose();

    private readonly struct NoLoop : ILoop
    {
        public void Run(int index)
        {
        }
    }

    private static void Loops(ComputePool pool, Action<string, double, string, Action> add)
    {
        add("loop of 2 empty parts", 1e-9, "M/s", () => pool.For(2, default(NoLoop)));
        add("loop of 16 empty parts", 1e-9, "M/s", () => pool.For(16, default(NoLoop)));
    }

    private void Products(CpuKernels kernels, Action<string, double, string, Action> add)
    {
        foreach ((int m, int n, int k) in ((int, int, int)[])[
            (1024, 1024, 1024), (256, 1024, 1024), (2048, 128, 256), (2048, 768, 256), (2048, 384, 128), (64, 128, 256)])
        {
            Tensor a = Data.Random(_arena, m, k, 1), b = Data.Random(_arena, n, k, 2), c = _arena.Allocate(m, n);
            add($"Linear {m} x {n} x {k}", 2.0 * m * n * k, "GFLOP/s", () => kernels.Linear(a, b, c));
        }

        foreach ((int m, int n, int k) in ((int, int, int)[])[(1024, 1024, 1024), (2048, 128, 256)])
        {
            Tensor g = Data.Random(_arena, m, n, 1), b = Data.Random(_arena, n, k, 2), c = _arena.Allocate(m, k);
            add($"BackwardInput {m} x {n} x {k}", 2.0 * m * n * k, "GFLOP/s", () => kernels.LinearBackwardInput(g, b, c));
            g = Data.Random(_arena, m, n, 1);
            Tensor x = Data.Random(_arena, m, k, 2), w = Data.Random(_arena, n, k, 3);
            add($"BackwardWeight {m} x {n} x {k}", 2.0 * m * n * k, "GFLOP/s", () => kernels.LinearBackwardWeight(g, x, w));
        }
    }

    private void Experts(CpuKernels kernels, Action<string, double, string, Action> add)
    {
        foreach ((int experts, int rows, int n, int k) in ((int, int, int, int)[])[(32, 256, 128, 256), (32, 64, 128, 256), (8, 64, 64, 128)])
        {
            double flops = 2.0 * experts * rows * n * k;
            string name = $"{experts} experts {rows} x {n} x {k}";
            GroupedProduct[] products = Group(experts, rows, k, n, k, n);
            add(name + " gathered", flops, "GFLOP/s", () => kernels.GroupedLinear(products));
            GroupedProduct[] inputs = Group(experts, rows, n, n, k, k);
            add(name + " input", flops, "GFLOP/s", () => kernels.GroupedLinearBackwardInput(inputs));
            GroupedProduct[] weights = Group(experts, rows, k, n, k, n);
            add(name + " weight", flops, "GFLOP/s", () => kernels.GroupedLinearBackwardWeight(weights));
        }
    }

    /// <summary>Products of rows gathered from 2048 tokens with one weight each.</summary>
    private GroupedProduct[] Group(int experts, int rows, int inputColumns, int n, int k, int outputColumns)
    {
        GroupedProduct[] products = new GroupedProduct[experts];
        Tensor input = Data.Random(_arena, 2048, inputColumns, 1);
        for (int e = 0; e < experts; e++)
        {
            products[e] = new(
                input, Data.Random(_arena, n, k, e), Data.Random(_arena, rows, outputColumns, e),
                Data.Integers(_arena, rows, 2048, e));
        }

        return products;
    }

    private void Attention(CpuKernels kernels, Action<string, double, string, Action> add)
    {
        const int H = 4, Nope = 64, Rope = 32, Value = 64;
        foreach ((int sequences, int length) in ((int, int)[])[(8, 256), (1, 512), (1, 1024)])
        {
            int t = sequences * length;
            AttentionShape shape = new(
                H, Nope, Rope, Value, 0.1f, [.. Enumerable.Range(0, sequences + 1).Select(s => s * length)]);
            for (int pass = 0; pass < 2; pass++)
            {
                Tensor q = Data.Random(_arena, t, H * (Nope + Rope), 1), kv = Data.Random(_arena, t, H * (Nope + Value), 2);
                Tensor rope = Data.Random(_arena, t, Rope, 3), o = Data.Random(_arena, t, H * Value, 4);
                Tensor lse = Data.Random(_arena, H, t, 5), go = Data.Random(_arena, t, H * Value, 6);
                Tensor gq = _arena.Allocate(t, H * (Nope + Rope)), gkv = _arena.Allocate(t, H * (Nope + Value));
                Tensor gr = _arena.Allocate(t, Rope);
                // Causal: half of the pairs; forward two products, backward seven of such a size (five and a recomputation).
                double pairs = (double)sequences * length * (length + 1) / 2 * H;
                if (pass == 0)
                {
                    add($"Attention {sequences} x {length}", pairs * 2 * (Nope + Rope + Value), "GFLOP/s",
                        () => kernels.Attention(q, kv, rope, o, lse, shape));
                }
                else
                {
                    kernels.Attention(q, kv, rope, o, lse, shape);
                    add($"AttentionBackward {sequences} x {length}", pairs * 2 * ((3 * (Nope + Rope)) + (2 * Value)), "GFLOP/s",
                        () => kernels.AttentionBackward(go, q, kv, rope, o, lse, gq, gkv, gr, shape));
                }
            }
        }
    }

    private void Decode(CpuKernels kernels, Action<string, double, string, Action> add)
    {
        foreach (int rows in (int[])[1, 2, 4, 8])
        {
            Tensor x = Data.Random(_arena, rows, 256, 1), w = Data.Random(_arena, 8192, 256, 2), y = _arena.Allocate(rows, 8192);
            add($"Linear {rows} x 8192 x 256 (weights 8 MB)", 8192.0 * 256 * 4, "GB/s", () => kernels.Linear(x, w, y));
        }

        // 27 MB in matrices of a layer's size: as many bytes as a token of docs-26m reads.
        const int Matrices = 208;
        Tensor input = Data.Random(_arena, 1, 256, 1), output = _arena.Allocate(Matrices, 128);
        Tensor weights = Data.Random(_arena, Matrices * 128, 256, 2);
        add("208 x Linear 1 x 128 x 256 (27 MB)", Matrices * 128.0 * 256 * 4, "GB/s", () =>
        {
            for (int i = 0; i < Matrices; i++)
            {
                kernels.Linear(input, weights.SliceRows(i * 128, 128), output.SliceRows(i, 1));
            }
        });

        AttentionShape shape = new(4, 64, 32, 64, 0.1f, [0, 1]);
        foreach (int position in (int[])[63, 511])
        {
            Tensor q = Data.Random(_arena, 1, 4 * 96, 1), up = Data.Random(_arena, 4 * 128, 128, 2);
            Tensor cache = Data.Random(_arena, position + 1, 160, 3), o = _arena.Allocate(1, 256);
            int pages = (position + 1) / LatentPages.PageTokens;
            Tensor ints = _arena.Allocate(pages + 2, DType.Int32);
            int[] values = [.. Enumerable.Range(0, pages), 0, position];
            values.CopyTo(ints.AsSpan<int>());
            var cached = new LatentPages(
                cache, ints.SliceElements(0, pages).Reshape(new(1, pages)), ints.SliceElements(pages, 1),
                ints.SliceElements(pages + 1, 1));
            add($"AbsorbedAttention 1 row, {position + 1} cached", ((4 * 128 * 128) + ((position + 1) * 160)) * 4.0, "GB/s",
                () => kernels.AbsorbedAttention(q, up, cached, o, shape));
        }
    }

    private void Elementwise(CpuKernels kernels, Action<string, double, string, Action> add)
    {
        const int N = 8192, D = 256;
        Tensor w = Data.Random(_arena, N, D, 1), g = Data.Random(_arena, N, D, 2), m = Data.Random(_arena, N, D, 3), v = _arena.Allocate(N, D);
        v.AsSpan<float>().Fill(1);
        AdamWStep step = new(1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 10, 1);
        add("AdamW 2 M, float32 moments", N * D * 28.0, "GB/s", () => kernels.AdamW([new(w, g, m, v)], step));
        w = Data.Random(_arena, N, D, 1);
        g = Data.Random(_arena, N, D, 2);
        m = _arena.Allocate(new TensorShape(N, D), DType.BFloat16);
        v = _arena.Allocate(new TensorShape(N, D), DType.BFloat16);
        m.AsSpan<ushort>().Fill(0x3F80);
        v.AsSpan<ushort>().Fill(0x3F80);
        add("AdamW 2 M, bfloat16 moments", N * D * 20.0, "GB/s", () => kernels.AdamW([new(w, g, m, v)], step));

        Tensor x = Data.Random(_arena, 2048, 768, 1), u = Data.Random(_arena, 2048, 768, 2), y = _arena.Allocate(2048, 768);
        add("SwiGlu 2048 x 768", 2048.0 * 768 * 12, "GB/s", () => kernels.SwiGlu(x, u, y));
        x = Data.Random(_arena, 2048, 256, 1);
        u = Data.Random(_arena, 1, 256, 2);
        y = _arena.Allocate(2048, 256);
        Tensor r = _arena.Allocate(2048);
        add("RmsNorm 2048 x 256", 2048.0 * 256 * 8, "GB/s", () => kernels.RmsNorm(x, u.Reshape(new(256)), y, r, 1e-6f));
        Tensor logits = Data.Random(_arena, 2048, 8192, 1), targets = Data.Integers(_arena, 2048, 8192, 2), losses = _arena.Allocate(2048);
        add("CrossEntropy 2048 x 8192 with gradient", 2048.0 * 8192 * 8, "GB/s", () => kernels.CrossEntropy(logits, targets, losses, 1e-3f));
        Tensor gate = Data.Random(_arena, 2048, 32, 1), s = _arena.Allocate(2048, 32), weights = _arena.Allocate(2048, 4);
        Tensor indices = _arena.Allocate(new TensorShape(2048, 4), DType.Int32);
        RoutingShape routing = new(32, 4, 4, 2, false, true, true, 2.5f);
        add("Route 2048 tokens, 4 of 32 experts", 2048, "tok/s", () => kernels.Route(gate, default, s, indices, weights, routing));
    }
}
