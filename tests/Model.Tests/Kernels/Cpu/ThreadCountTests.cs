using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Kernels.Cpu;

/// <summary>Shapes large enough to be forked give the same bits on one, two and three threads.</summary>
public sealed class ThreadCountTests : IDisposable
{
    private readonly TestTensors _data = new(7);

    public void Dispose() => _data.Dispose();

    [Fact]
    public void Products() => Same(
        () => [_data.Normal(300, 260), _data.Normal(410, 260), _data.Normal(300, 410), _data.Normal(300, 260), _data.Normal(410, 260), _data.Normal(1, 260), _data.Normal(1, 410)],
        (k, t) =>
        {
            k.Linear(t[0], t[1], t[2]);
            k.LinearBackwardInput(t[2], t[1], t[3]);
            k.LinearBackwardWeight(t[2], t[0], t[4]);
            k.Linear(t[5], t[1], t[6], accumulate: true);
        });

    [Fact]
    public void Attention()
    {
        AttentionShape shape = new(3, 40, 16, 24, 0.1f, [0, 1, 131, 700]);
        Same(
            () =>
            [
                _data.Normal(700, 3 * 56), _data.Normal(700, 3 * 64), _data.Normal(700, 16), _data.Normal(700, 3 * 24),
                _data.Normal(3, 700), _data.Normal(700, 3 * 24), _data.Normal(700, 3 * 56), _data.Normal(700, 3 * 64),
                _data.Normal(700, 16),
            ],
            (k, t) =>
            {
                k.Attention(t[0], t[1], t[2], t[3], t[4], shape);
                k.AttentionBackward(t[5], t[0], t[1], t[2], t[3], t[4], t[6], t[7], t[8], shape);
            });
    }

    [Fact]
    public void Rows_and_losses()
    {
        double norm = 0;
        Same(
            () =>
            [
                _data.Normal(400, 300), _data.NormalVector(300), _data.Normal(400, 300), _data.NormalVector(400),
                _data.NormalVector(300), _data.RandomInts(400, -1, 300), _data.NormalVector(400), _data.Normal(300, 300),
            ],
            (k, t) =>
            {
                k.RmsNorm(t[0], t[1], t[2], t[3], 1e-6f);
                k.RmsNormBackwardWeight(t[0], t[2], t[3], t[4]);
                k.RmsNormBackwardInput(t[0], t[2], t[1], t[3], t[2], accumulate: true);
                k.EmbeddingBackward(t[0], t[5], t[7]);
                k.SwiGlu(t[0], t[2], t[2]);
                k.CrossEntropy(t[0], t[5], t[6], 0.1f);
                double[] sum = new double[1];
                k.SumsOfSquares([t[0]], sum);
                Assert.True(norm == 0 || norm == sum[0]);
                norm = sum[0];
            });
    }

    private void Same(Func<Tensor[]> make, Action<IKernels, Tensor[]> call)
    {
        Tensor[] inputs = make();
        using HostArena arena = new("same bits");
        Tensor[][] results = new Tensor[3][];
        for (int i = 0; i < results.Length; i++)
        {
            using ComputePool pool = new(i + 1);
            CpuKernels kernels = new(pool);
            results[i] = Array.ConvertAll(inputs, tensor =>
            {
                Tensor twin = TestTensors.Twin(tensor, arena);
                kernels.Copy(tensor, twin);
                return twin;
            });
            pool.RunAsync(() => call(kernels, results[i])).GetAwaiter().GetResult();
            for (int t = 0; t < inputs.Length; t++)
            {
                TensorAssert.Same(results[0][t], results[i][t], $"{i + 1} threads, tensor {t}");
            }
        }
    }
}
