using System.Diagnostics;
using Krewe.Gpu.Devices;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.GpuSpeed;

/// <summary>
/// The kernels at sizes of DeepSeek-V3's layers for 4096 tokens, and of docs-26m's for 32768. A repetition submits several calls as
/// one work and divides its time by them; the first work warms up. Values are near to normal, never zeros.
/// </summary>
internal sealed partial class GpuCases(CudaDevice device, int repetitions, string filter) : IDisposable
{
    private const int Tokens = 4096;
    private readonly Arena _arena = device.CreateArena("benchmark");
    private readonly HostArena _host = new("benchmark values");

    public async Task RunAsync()
    {
        Console.WriteLine(
            $"{"case",-44} {"median us",10} {"min",9} {"max",9} {"rate",9} unit");
        await ProductsAsync();
        await RoundedProductsAsync();
        await RowsAsync();
        await AttentionAsync();
        await RoutingAsync();
        await OptimizerAsync();
        await QuantizationAsync();
        await ScaledProductsAsync();
    }

    public void Dispose()
    {
        _arena.Dispose();
        _host.Dispose();
    }

    private async Task ProductsAsync()
    {
        const int n = 2048, d = 7168;
        Tensor x = await NormalAsync(Tokens, d);
        Tensor w = await NormalAsync(n, d);
        Tensor y = await NormalAsync(Tokens, n);
        double work = 2.0 * Tokens * n * d;
        await CaseAsync($"linear {Tokens} x {n} x {d}", 2, work, "GFLOP/s", k => k.Linear(x, w, y));
        await CaseAsync("  backward to input", 2, work, "GFLOP/s", k => k.LinearBackwardInput(y, w, x));
        await CaseAsync("  backward to weight", 2, work, "GFLOP/s", k => k.LinearBackwardWeight(y, x, w));
        GroupedProduct[] experts =
        [
            .. Enumerable.Range(0, 16).Select(
                e => new GroupedProduct(x.SliceRows(e * 256, 256), w, y.SliceRows(e * 256, 256))),
        ];
        await CaseAsync("  grouped, 16 experts of 256 rows", 2, work, "GFLOP/s", k => k.GroupedLinear(experts));
        await CaseAsync(
            "  one row", 20, 4.0 * n * d, "GB/s", k => k.Linear(x.SliceRows(0, 1), w, y.SliceRows(0, 1)));
        _arena.Reset();
    }

    private async Task RowsAsync()
    {
        const int d = 7168;
        Tensor x = await NormalAsync(Tokens, d);
        Tensor g = await NormalAsync(Tokens, d);
        Tensor y = await NormalAsync(Tokens, d);
        Tensor w = await NormalAsync(1, d);
        Tensor weight = w.Reshape(new(d));
        Tensor inverse = (await NormalAsync(1, Tokens)).Reshape(new(Tokens));
        Tensor rows = await IntsAsync(Tokens, i => (i * 1237) % Tokens);
        double bytes = 4.0 * Tokens * d;
        await CaseAsync(
            $"rms norm {Tokens} x {d}", 10, 2 * bytes, "GB/s", k => k.RmsNorm(x, weight, y, inverse, 1e-6f));
        await CaseAsync(
            "  backward to input", 10, 3 * bytes, "GB/s", k => k.RmsNormBackwardInput(g, x, weight, inverse, y));
        await CaseAsync(
            "  backward to weight", 10, 2 * bytes, "GB/s", k => k.RmsNormBackwardWeight(g, x, inverse, weight));
        await CaseAsync("swiglu", 10, 3 * bytes, "GB/s", k => k.SwiGlu(x, g, y));
        await CaseAsync("swiglu backward", 10, 5 * bytes, "GB/s", k => k.SwiGluBackward(y, x, g, x, g));
        await CaseAsync("add", 10, 3 * bytes, "GB/s", k => k.Add(x, y));
        await CaseAsync("copy", 10, 2 * bytes, "GB/s", k => k.Copy(x, y));
        await CaseAsync("gather rows", 10, 2 * bytes, "GB/s", k => k.GatherRows(x, rows, default, y));
        await CaseAsync("sum of squares", 10, bytes, "GB/s", k => k.SumsOfSquares([x], new double[1]));
        _arena.Reset();
        const int v = 129_280;
        Tensor logits = await NormalAsync(512, v);
        Tensor targets = await IntsAsync(512, i => i * 251);
        Tensor losses = (await NormalAsync(1, 512)).Reshape(new(512));
        await CaseAsync(
            $"cross-entropy 512 x {v}", 5, 4.0 * 512 * v * 4, "GB/s", k => k.CrossEntropy(logits, targets, losses, 1));
        Tensor ids = await IntsAsync(512, i => i * i % 300);
        Tensor gradient = await NormalAsync(512, 1024);
        Tensor table = logits.SliceRows(0, 512).SliceColumns(0, 1024);
        await CaseAsync(
            "embedding backward 512 x 1024", 10, 4.0 * 512 * 1024 * 3, "GB/s",
            k => k.EmbeddingBackward(gradient, ids, table));
        _arena.Reset();
    }

    private async Task AttentionAsync()
    {
        const int tokens = 2048, heads = 32, latent = 512;
        var shape = new AttentionShape(heads, 128, 64, 128, 0.07f, [0, tokens]);
        Tensor q = await NormalAsync(tokens, heads * 192);
        Tensor kv = await NormalAsync(tokens, heads * 256);
        Tensor kr = await NormalAsync(tokens, 64);
        Tensor o = await NormalAsync(tokens, heads * 128);
        Tensor lse = await NormalAsync(heads, tokens);
        Tensor gq = await NormalAsync(tokens, heads * 192);
        Tensor gkv = await NormalAsync(tokens, heads * 256);
        Tensor gkr = await NormalAsync(tokens, 64);
        double pairs = heads * (tokens * (tokens + 1.0) / 2);
        await CaseAsync(
            $"attention {tokens} tokens, {heads} heads", 2, pairs * 2 * (192 + 128), "GFLOP/s",
            k => k.Attention(q, kv, kr, o, lse, shape));
        await CaseAsync(
            "  backward", 1, pairs * 2 * ((3 * 192) + (2 * 128)), "GFLOP/s",
            k => k.AttentionBackward(o, q, kv, kr, o, lse, gq, gkv, gkr, shape));
        AttentionShape rounded = shape with { Operand = DType.BFloat16 };
        await CaseAsync(
            "  of bfloat16 operands", 20, pairs * 2 * (192 + 128), "GFLOP/s",
            k => k.Attention(q, kv, kr, o, lse, rounded));
        await CaseAsync(
            "  backward", 10, pairs * 2 * ((3 * 192) + (2 * 128)), "GFLOP/s",
            k => k.AttentionBackward(o, q, kv, kr, o, lse, gq, gkv, gkr, rounded));
        Tensor up = await NormalAsync(heads * 256, latent);
        Tensor cache = await NormalAsync(tokens, latent + 64);
        Tensor pages = (await IntsAsync(tokens / LatentPages.PageTokens, i => i)).Reshape(new(1, tokens / LatentPages.PageTokens));
        var last = new LatentPages(cache, pages, await IntsAsync(1, _ => 0), await IntsAsync(1, _ => tokens - 1));
        await CaseAsync(
            $"  absorbed, one token behind {tokens - 1}", 10, tokens * heads * 2.0 * ((2 * latent) + 64), "GFLOP/s",
            k => k.AbsorbedAttention(q.SliceRows(0, 1), up, last, o.SliceRows(0, 1), shape));
        Tensor angles = await NormalAsync(tokens, 64);
        Tensor positions = await IntsAsync(tokens, i => i);
        await CaseAsync(
            "rotary embedding", 10, tokens * heads * 64 * 8.0, "GB/s",
            k => k.RotaryEmbedding(q, heads, 128, angles, positions));
        _arena.Reset();
    }

    private async Task RoutingAsync()
    {
        var routing = new RoutingShape(256, 8, 8, 4, false, true, true, 2.5f);
        Tensor logits = await NormalAsync(Tokens, 256);
        Tensor bias = (await NormalAsync(1, 256)).Reshape(new(256));
        Tensor scores = await NormalAsync(Tokens, 256);
        Tensor indices = (await IntsAsync(Tokens * 8, _ => 0)).Reshape(new(Tokens, 8));
        Tensor weights = await NormalAsync(Tokens, 8);
        Tensor gradient = await NormalAsync(Tokens, 256);
        Tensor frequency = await NormalAsync(1, 256);
        Tensor mean = await NormalAsync(1, 256);
        await CaseAsync(
            $"route {Tokens} tokens, 8 of 256", 10, Tokens, "tok/s",
            k => k.Route(logits, bias, scores, indices, weights, routing));
        await CaseAsync(
            "  backward", 10, Tokens, "tok/s",
            k => k.RouteBackward(weights, scores, indices, default, default, gradient, routing));
        await CaseAsync(
            "  balance statistics", 10, Tokens, "tok/s",
            k => k.BalanceStatistics(scores, indices, [0, Tokens], frequency, mean));
        _arena.Reset();
    }

    private async Task OptimizerAsync()
    {
        Tensor w = await NormalAsync(Tokens, 7168);
        Tensor g = await NormalAsync(Tokens, 7168);
        Tensor m = _arena.Allocate(Tokens, 7168);
        Tensor v = _arena.Allocate(Tokens, 7168);
        await device.SubmitAsync(k =>
        {
            k.Fill(m, 0.1f);
            k.Fill(v, 0.1f);
        });
        await CaseAsync(
            "adamw 29.4 M parameters", 10, 7 * 4.0 * w.Count, "GB/s",
            k => k.AdamW([new(w, g, m, v)], new(1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 10, 1)));
        _arena.Reset();
    }

    /// <summary>Median, least and most of the repetitions; the rate is that of the median.</summary>
    private async Task CaseAsync(string name, int calls, double work, string unit, Action<IKernels> call)
    {
        if (!name.Contains(filter, StringComparison.Ordinal))
        {
            return;
        }

        var times = new double[repetitions + 1];
        for (int i = 0; i < times.Length; i++)
        {
            long start = Stopwatch.GetTimestamp();
            await device.SubmitAsync(kernels =>
            {
                for (int j = 0; j < calls; j++)
                {
                    call(kernels);
                }
            });
            times[i] = Stopwatch.GetElapsedTime(start).TotalSeconds / calls;
        }

        double[] sorted = [.. times.Skip(1).Order()];
        double median = sorted[sorted.Length / 2];
        double rate = work / median / (unit == "tok/s" ? 1 : 1e9);
        Console.WriteLine(
            $"{name,-44} {median * 1e6,10:F1} {sorted[0] * 1e6,9:F1} {sorted[^1] * 1e6,9:F1} {rate,9:F1} {unit}");
    }

    private async Task<Tensor> NormalAsync(int rows, int columns)
    {
        Tensor host = _host.Allocate(rows, columns);
        Randomize(host.AsSpan<float>());
        Tensor tensor = _arena.Allocate(rows, columns);
        await device.CopyAsync(host, tensor);
        _host.Reset();
        return tensor;
    }

    private async Task<Tensor> IntsAsync(int count, Func<int, int> value)
    {
        Tensor host = _host.Allocate(count, DType.Int32);
        Span<int> values = host.AsSpan<int>();
        for (int i = 0; i < count; i++)
        {
            values[i] = value(i);
        }

        Tensor tensor = _arena.Allocate(count, DType.Int32);
        await device.CopyAsync(host, tensor);
        _host.Reset();
        return tensor;
    }

    /// <summary>Sums of four even values: near enough to normal, and quick.</summary>
    private static void Randomize(Span<float> values)
    {
        var random = new Random(values.Length);
        foreach (ref float value in values)
        {
            value = random.NextSingle() + random.NextSingle() + random.NextSingle() + random.NextSingle() - 2;
        }
    }
}
