using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Attention in its absorbed form; <c>AbsorbedAttention.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int AbsorbedChunk = 256;
    private const int AbsorbedStep = 64;

    private CudaKernel AbsorbQuery => field ??= _library.Kernel("AbsorbedAttention.cu", "absorb_query");

    private CudaKernel AbsorbedChunkKernel => field ??= _library.Kernel("AbsorbedAttention.cu", "absorbed_chunk");

    private CudaKernel JoinChunks => field ??= _library.Kernel("AbsorbedAttention.cu", "join_chunks");

    /// <inheritdoc/>
    public void AbsorbedAttention(
        Tensor query, Tensor upProjection, Tensor cache, int firstPosition, Tensor output, in AttentionShape attention)
    {
        KernelChecks.AbsorbedAttention(query, upProjection, cache, firstPosition, output, attention);
        int latent = upProjection.Columns;
        uint rows = (uint)query.Rows;
        uint heads = (uint)attention.Heads;
        uint chunks = Dim3.Cover((long)firstPosition + query.Rows, AbsorbedChunk);
        long contexts = (long)rows * heads;
        var sizes = new DeviceAttention(attention, query.Rows);
        using Scratch absorbed = Take(contexts * latent * sizeof(float), nameof(AbsorbedAttention));
        using Scratch partial = Take(contexts * chunks * (latent + 2) * sizeof(float), nameof(AbsorbedAttention));

        KernelArguments arguments = new();
        arguments.Add(Device(query));
        arguments.Add(Device(upProjection));
        arguments.Add(sizes);
        arguments.Add(absorbed.Address);
        Launch(AbsorbQuery, new(new(rows, heads), new(BlockThreads)), ref arguments);

        arguments = new();
        arguments.Add(Device(query));
        arguments.Add(absorbed.Address);
        arguments.Add(Device(cache));
        arguments.Add(firstPosition);
        arguments.Add(sizes);
        arguments.Add(partial.Address);
        int floats = latent + AbsorbedStep + (BlockThreads / WarpThreads);
        Launch(
            AbsorbedChunkKernel, new(new(rows, heads, chunks), new(BlockThreads), floats * sizeof(float)),
            ref arguments);

        arguments = new();
        arguments.Add(partial.Address);
        arguments.Add((int)chunks);
        arguments.Add(Device(upProjection));
        arguments.Add(firstPosition);
        arguments.Add(Device(output));
        arguments.Add(sizes);
        Launch(JoinChunks, new(new(rows, heads), new(BlockThreads), latent * sizeof(float)), ref arguments);
    }
}
