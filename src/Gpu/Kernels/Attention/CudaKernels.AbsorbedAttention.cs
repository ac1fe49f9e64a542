using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Attention in its absorbed form over pages of latents; <c>AbsorbedAttention.cu</c>.</content>
internal sealed partial class CudaKernels
{
    /// <summary>Most chunks of a row, which has as many pages in each as its position asks for.</summary>
    private const int AbsorbedChunks = 16;
    private const int AbsorbedChannels = 64;
    private const int AbsorbedStep = 64;
    private const int AbsorbedRows = 8;
    private const int AbsorbedHeads = 4;
    private const int AbsorbedValues = 32;

    /// <summary>Of few rows, to have blocks enough.</summary>
    private const int AbsorbedValuesOfFew = 8;

    /// <summary>Most bytes of a block with a page of the cache in shared memory; two share a multiprocessor.</summary>
    private const int MostAbsorbedBytes = 200 << 10;

    private CudaKernel StoreLatentsKernel => field ??= _library.Kernel("Attention/AbsorbedAttention.cu", "store_latents");

    private CudaKernel AbsorbQuery => field ??= _library.Kernel("Attention/AbsorbedAttention.cu", "absorb_query");

    private CudaKernel AbsorbedChunkKernel => field ??= _library.Kernel("Attention/AbsorbedAttention.cu", "absorbed_chunk");

    private CudaKernel AbsorbedChunkBFloat16 =>
        field ??= _library.Kernel("Attention/AbsorbedAttention.cu", "absorbed_chunk_bfloat16");

    private CudaKernel JoinChunks => field ??= _library.Kernel("Attention/AbsorbedAttention.cu", "join_chunks");

    /// <inheritdoc/>
    public void StoreLatents(Tensor latent, Tensor keyRope, in LatentPages pages)
    {
        KernelChecks.StoreLatents(latent, keyRope, pages, this);
        if (latent.Rows == 0)
        {
            return;
        }

        KernelArguments arguments = new();
        arguments.Add(Device(latent));
        arguments.Add(Device(keyRope));
        arguments.Add(new DeviceLatentPages(pages));
        arguments.Add(Submission.Fault);
        Launch(StoreLatentsKernel, Rows(latent.Rows), ref arguments);
    }

    /// <inheritdoc/>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, in LatentPages pages, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, pages, output, attention, this);
        if (query.Rows == 0)
        {
            return;
        }

        int latent = upProjection.Columns;
        int width = latent + attention.RopeDim;
        uint rows = (uint)query.Rows;
        uint heads = (uint)attention.Heads;
        uint rowTiles = Dim3.Cover(rows, AbsorbedRows);
        uint chunks = (uint)Math.Min(pages.Table.Columns, AbsorbedChunks);
        long contexts = (long)rows * heads;
        var sizes = new DeviceAttention(attention, query.Rows);
        var device = new DeviceLatentPages(pages);
        using Scratch absorbed = Take(contexts * latent * sizeof(float), nameof(AbsorbedAttention));
        using Scratch partial = Take(contexts * chunks * (latent + 2) * sizeof(float), nameof(AbsorbedAttention));

        KernelArguments arguments = new();
        arguments.Add(Device(query));
        arguments.Add(Device(upProjection));
        arguments.Add(sizes);
        arguments.Add(absorbed.Address);
        var grid = new Dim3(rowTiles, heads, Dim3.Cover(latent, AbsorbedChannels));
        Launch(
            AbsorbQuery, new(grid, new(BlockThreads), AbsorbedRows * attention.NopeDim * sizeof(float)), ref arguments);

        arguments = new();
        arguments.Add(Device(query));
        arguments.Add(absorbed.Address);
        arguments.Add(device);
        arguments.Add(sizes);
        int bytes = AbsorbedHeads * (width + latent + AbsorbedStep + 1) * sizeof(float);
        int pieces = (int)Dim3.Cover(width * pages.Rows.DType.SizeInBytes(), PieceBytes);
        bool staged = bytes + (LatentPages.PageTokens * pieces * PieceBytes) <= MostAbsorbedBytes;
        bytes += staged ? LatentPages.PageTokens * pieces * PieceBytes : 0;
        arguments.Add(staged ? pieces * PieceBytes / pages.Rows.DType.SizeInBytes() : 0);
        arguments.Add(partial.Address);
        arguments.Add(Submission.Fault);
        grid = new Dim3(rows, Dim3.Cover(heads, AbsorbedHeads), chunks);
        CudaKernel attend = pages.Rows.DType == DType.BFloat16 ? AbsorbedChunkBFloat16 : AbsorbedChunkKernel;
        Launch(attend, new(grid, new(BlockThreads), bytes), ref arguments);

        arguments = new();
        arguments.Add(partial.Address);
        arguments.Add((int)chunks);
        arguments.Add(Device(upProjection));
        arguments.Add(device);
        arguments.Add(Device(output));
        arguments.Add(sizes);
        int values = rowTiles == 1 ? AbsorbedValuesOfFew : AbsorbedValues;
        arguments.Add(values);
        arguments.Add(Submission.Fault);
        grid = new Dim3(rowTiles, heads, Dim3.Cover(attention.ValueDim, values));
        Launch(JoinChunks, new(grid, new(BlockThreads), AbsorbedRows * latent * sizeof(float)), ref arguments);
    }

    /// <summary>Pages of latents as kernels take them; mirrors <c>Pages</c> in <c>AbsorbedAttention.cu</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly struct DeviceLatentPages(in LatentPages pages)
    {
        private readonly nint _rows = pages.Rows.Address;
        private readonly int _width = pages.Rows.Columns;
        private readonly int _stride = pages.Rows.RowStride;
        private readonly int _stored = pages.Rows.DType == DType.BFloat16 ? 1 : 0;
        private readonly nint _table = pages.Table.Address;
        private readonly int _tableColumns = pages.Table.Columns;
        private readonly nint _sequences = pages.Sequences.Address;
        private readonly nint _positions = pages.Positions.Address;
    }
}
