using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.GpuSpeed;

/// <content>Products of bfloat16 operands, as the layers call them.</content>
internal sealed partial class GpuCases
{
    private async Task RoundedProductsAsync()
    {
        await DenseAsync("bfloat16 linear", Tokens, 2048, 7168);
        await DenseAsync("bfloat16 head of docs-26m", 32768, 8192, 256);
        await ExpertsAsync("docs-26m", tokens: 32768, topK: 4, experts: 32, width: 128, hidden: 256);
        await ExpertsAsync("DeepSeek-V3, 8 of its experts", Tokens, topK: 8, experts: 8, width: 2048, hidden: 7168);
    }

    private async Task DenseAsync(string name, int m, int n, int d)
    {
        Tensor x = await RoundedAsync(m, d);
        Tensor w = await RoundedAsync(n, d);
        Tensor g = await RoundedAsync(m, n);
        Tensor y = _arena.Allocate(m, n);
        Tensor gx = _arena.Allocate(m, d);
        Tensor gw = await NormalAsync(n, d);
        double work = 2.0 * m * n * d;
        await CaseAsync($"{name} {m} x {n} x {d}", 10, work, "GFLOP/s", k => k.Linear(x, w, y));
        await CaseAsync("  bfloat16 backward to input", 10, work, "GFLOP/s", k => k.LinearBackwardInput(g, w, gx));
        await CaseAsync("  bfloat16 backward to weight", 10, work, "GFLOP/s", k => k.LinearBackwardWeight(g, x, gw));
        await CaseAsync("  rounding to bfloat16", 10, 6.0 * m * n, "GB/s", k => k.RoundToBFloat16(y, g));
        _arena.Reset();
    }

    /// <summary>Gate and up projections of all experts in one launch, each with its tokens gathered.</summary>
    private async Task ExpertsAsync(string name, int tokens, int topK, int experts, int width, int hidden)
    {
        int rows = tokens * topK / experts;
        Tensor x = await RoundedAsync(tokens, hidden);
        Tensor w = await RoundedAsync(2 * experts * width, hidden);
        Tensor g = await RoundedAsync(2 * experts * rows, width);
        Tensor y = _arena.Allocate(2 * experts * rows, width);
        Tensor gw = await NormalAsync(2 * experts * width, hidden);
        Tensor gx = _arena.Allocate(2 * experts * rows, hidden);
        Tensor chosen = await IntsAsync(experts * rows, i => (int)(i * 7919L % tokens));
        var forward = new GroupedProduct[2 * experts];
        var toInput = new GroupedProduct[2 * experts];
        var toWeight = new GroupedProduct[2 * experts];
        for (int i = 0; i < forward.Length; i++)
        {
            Tensor picks = new(
                chosen.Address + ((nint)(i / 2 * rows) * sizeof(int)), new TensorShape(rows), DType.Int32);
            Tensor weight = w.SliceRows(i * width, width);
            Tensor gradient = g.SliceRows(i * rows, rows);
            forward[i] = new(x, weight, y.SliceRows(i * rows, rows), picks);
            toInput[i] = new(gradient, weight, gx.SliceRows(i * rows, rows));
            toWeight[i] = new(x, gw.SliceRows(i * width, width), gradient, picks);
        }

        double work = 2.0 * forward.Length * rows * width * hidden;
        await CaseAsync($"bfloat16 experts of {name}", 10, work, "GFLOP/s", k => k.GroupedLinear(forward));
        await CaseAsync(
            "  bfloat16 experts to input", 10, work, "GFLOP/s", k => k.GroupedLinearBackwardInput(toInput));
        await CaseAsync(
            "  bfloat16 experts to weight", 10, work, "GFLOP/s", k => k.GroupedLinearBackwardWeight(toWeight));
        _arena.Reset();
    }

    private async Task<Tensor> RoundedAsync(int rows, int columns)
    {
        Tensor values = await NormalAsync(rows, columns);
        Tensor rounded = _arena.Allocate(rows, columns, DType.BFloat16);
        await device.SubmitAsync(kernels => kernels.RoundToBFloat16(values, rounded));
        return rounded;
    }
}
