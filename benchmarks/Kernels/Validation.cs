using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Cpu;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Tensors;

namespace Krewe.Kernels;

/// <summary>A figure counts only if the result is right: the products bit by bit, attention within rounding.</summary>
internal static class Validation
{
    public static void Run(ComputePool pool)
    {
        CpuKernels cpu = new(pool);
        ReferenceKernels reference = new();
        using HostArena arena = new("validation");
        foreach ((int m, int n, int k) in ((int, int, int)[])[(131, 160, 300), (1, 128, 256), (64, 128, 256), (3, 70, 90)])
        {
            Tensor a = Data.Random(arena, m, k, 1);
            Tensor b = Data.Random(arena, n, k, 2);
            Tensor g = Data.Random(arena, m, n, 3);
            Check($"Linear {m} {n} {k}", 0, cpu, reference, Data.Random(arena, m, n, 4), (x, c) => x.Linear(a, b, c));
            Check($"BackwardInput {m} {n} {k}", 0, cpu, reference, Data.Random(arena, m, k, 4), (x, c) => x.LinearBackwardInput(g, b, c));
            Check($"BackwardWeight {m} {n} {k}", 0, cpu, reference, Data.Random(arena, n, k, 4), (x, c) => x.LinearBackwardWeight(g, a, c));
        }

        AttentionShape shape = new(2, 24, 8, 32, 0.2f, [0, 100, 303]);
        Tensor q = Data.Random(arena, 303, 2 * 32, 5);
        Tensor kv = Data.Random(arena, 303, 2 * 56, 6);
        Tensor rope = Data.Random(arena, 303, 8, 7);
        Tensor lse = arena.Allocate(2, 303);
        Check("Attention", 1e-5f, cpu, reference, Data.Random(arena, 303, 64, 8), (x, o) => x.Attention(q, kv, rope, o, lse, shape));
        Report.Line($"{cpu.Name}: products equal the reference bit by bit, attention within 1e-5");
    }

    private static void Check(
        string name, float tolerance, CpuKernels cpu, ReferenceKernels reference, Tensor output,
        Action<IKernels, Tensor> call)
    {
        using HostArena arena = new("validation");
        Tensor expected = arena.Allocate(output.Shape);
        reference.Copy(output, expected);
        call(cpu, output);
        call(reference, expected);
        ReadOnlySpan<float> actual = output.AsSpan<float>();
        for (int i = 0; i < actual.Length; i++)
        {
            float want = expected.AsSpan<float>()[i];
            if (!(MathF.Abs(actual[i] - want) <= tolerance))
            {
                throw new InvalidOperationException($"{name}: element {i} is {actual[i]:r}, expected {want:r}");
            }
        }
    }
}
