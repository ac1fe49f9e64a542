using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels.MatrixProduct;

/// <content>Copies of operands that no tensor map can describe, and the memory for them.</content>
internal sealed partial class Fp8Products
{
    private const int PackThreads = 256;

    /// <summary>Scratch memory that is kept from launch to launch; what needs more takes it for the while.</summary>
    private const long KeptScratchBytes = 32 << 20;

    private readonly List<(PackedOperand A, PackedOperand B)> _operands = [];
    private readonly List<PackedOperand> _packed = [];
    private readonly Dictionary<(nint Codes, nint Gather, int Rows), PackedOperand> _planned = [];
    private nint _keptScratch;

    private CudaKernel PackKernel => field ??= library.Kernel("MatrixProduct/PackOperands.cu", "pack_operands");

    /// <summary>Lays out the operands' copies from <paramref name="scratch"/> on.</summary>
    private (long Bytes, int Pieces) Plan(ReadOnlySpan<ScaledProduct> products, nint scratch)
    {
        nint next = scratch;
        int pieces = 0;
        _operands.Clear();
        _packed.Clear();
        _planned.Clear();
        foreach (ref readonly ScaledProduct product in products)
        {
            PackedOperand a = Add(product.Input, product.InputRows, product.Output.Rows);
            _operands.Add((a, Add(product.Weight, default, product.Weight.Rows)));
        }

        return (next - scratch, pieces);

        // What several products read is made ready once: the input of gate and up projections, that of all experts.
        PackedOperand Add(QuantizedTensor source, Tensor gather, int rows)
        {
            (nint, nint, int) key = (source.Codes.Address, gather.Address, rows);
            if (_planned.TryGetValue(key, out PackedOperand planned))
            {
                return planned;
            }

            var operand = new PackedOperand(source, gather, rows, ref next, ref pieces);
            if (operand.IsPacked)
            {
                _packed.Add(operand);
            }

            _planned.Add(key, operand);
            return operand;
        }
    }

    private void Pack(CudaSubmission submission, int pieces)
    {
        if (pieces == 0)
        {
            return;
        }

        Span<PackedOperand> packed = CollectionsMarshal.AsSpan(_packed);
        OwnedOperands own = default;
        bool listed = packed.Length > OwnedOperands.Count;
        if (!listed)
        {
            packed.CopyTo(own);
        }

        KernelArguments arguments = new();
        arguments.Add(own);
        arguments.Add(listed ? submission.Upload<PackedOperand>(packed) : 0);
        arguments.Add(packed.Length);
        arguments.Add(submission.Fault);
        PackKernel.Launch(stream, new(new((uint)pieces), new(PackThreads)), ref arguments);
    }

    /// <summary>Memory for what is submitted until <see cref="GiveScratch"/>: the stream keeps users apart.</summary>
    private nint TakeScratch(long bytes)
    {
        const string Purpose = "operands of FP8 products";
        if (bytes > KeptScratchBytes)
        {
            return pool.Allocate(bytes, stream, Purpose);
        }

        if (_keptScratch == 0)
        {
            _keptScratch = pool.Allocate(KeptScratchBytes, stream, Purpose);
        }

        return _keptScratch;
    }

    private void GiveScratch(nint scratch)
    {
        if (scratch != _keptScratch)
        {
            _ = pool.TryFree(scratch, stream);
        }
    }
}
