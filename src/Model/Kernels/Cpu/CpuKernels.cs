using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <summary>
/// The SIMD backend. Loops are forked over a <see cref="ComputePool"/>; small calls stay on the calling thread.
/// </summary>
/// <remarks>
/// <para>Same bits for any number of threads: parts and tiles depend on shapes alone, each element is written by one
/// part, and sums have a fixed order. Vector code is written over 512 bits and split by the JIT where the machine is
/// narrower, so apart from the tile of the products nothing differs between instruction sets.</para>
/// <para>The outputs of the products of one grouped launch must not overlap: they are written at the same time.</para>
/// <para>Thread-safe: calls on different tensors may run at the same time.</para>
/// </remarks>
public sealed unsafe partial class CpuKernels : IKernels
{
    /// <summary>Elements of a part of an elementwise loop: 32 KiB of each operand.</summary>
    private const int PartElements = 8192;

    /// <summary>Below this many elements an elementwise loop stays on the calling thread.</summary>
    private const int MinParallelElements = 32768;

    private readonly ComputePool _pool;
    private readonly Isa _isa;

    /// <summary>Kernels whose loops are helped by <paramref name="pool"/>.</summary>
    public CpuKernels(ComputePool pool)
    {
        ArgumentNullException.ThrowIfNull(pool);
        _pool = pool;
        _isa = Vector512.IsHardwareAccelerated && Avx512F.IsSupported ? Isa.Avx512
            : Vector256.IsHardwareAccelerated && Fma.IsSupported ? Isa.Avx2
            : Isa.Portable;
        Name = _isa switch { Isa.Avx512 => "cpu/avx512", Isa.Avx2 => "cpu/avx2", _ => "cpu/portable" };
    }

    private enum Isa
    {
        Portable,
        Avx2,
        Avx512,
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <inheritdoc/>
    /// <remarks>The products multiply float32; stored bfloat16 would be widened at every use.</remarks>
    public DType BFloat16Storage => DType.Float32;

    /// <summary>Runs a loop of parts that touch <paramref name="elements"/> elements together.</summary>
    private void For<TLoop>(int parts, long elements, TLoop loop) where TLoop : struct, ILoop
    {
        if (elements >= MinParallelElements)
        {
            _pool.For(parts, loop);
            return;
        }

        for (int i = 0; i < parts; i++)
        {
            loop.Run(i);
        }
    }

    private static float* RowAddress(Tensor tensor, int row) => tensor.Floats + ((nint)row * tensor.RowStride);

    /// <summary>Parts of an elementwise loop: runs of a dense tensor, or rows.</summary>
    private readonly struct Parts
    {
        private readonly long _count;
        private readonly int _columns;
        private readonly bool _dense;

        public Parts(Tensor tensor, bool dense)
        {
            _dense = dense;
            _count = tensor.Count;
            _columns = tensor.Columns;
            Number = dense ? (int)((_count + PartElements - 1) / PartElements) : tensor.Rows;
        }

        public int Number { get; }

        /// <summary>First element and length of a part of a tensor with this row stride.</summary>
        public nint Start(int index, int rowStride) => _dense ? (nint)index * PartElements : (nint)index * rowStride;

        public int Length(int index) =>
            _dense ? (int)Math.Min(PartElements, _count - ((long)index * PartElements)) : _columns;
    }
}
