using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Gpu.Kernels.Attention;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Attention with bfloat16 operands on the tensor cores; <c>Attention/*.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int RoundedGroup = 4;
    private readonly Dictionary<FlashHeads, FlashKernels> _flashKernels = [];

    private CudaKernel RoundOperand => field ??= _library.Kernel("Attention/FlashOperands.cu", "round_operand");

    private CudaKernel RoundGradient => field ??= _library.Kernel("Attention/FlashOperands.cu", "round_gradient");

    /// <summary>Whether a call goes to the tensor cores: its operands are bfloat16, the card is a Hopper, and there are
    /// kernels for its head sizes. Other calls take the float32 kernels, which round the same operands.</summary>
    private bool IsFlash(in AttentionShape attention) =>
        attention.Operand == DType.BFloat16 && attention.Scale > 0 && _hasWarpgroups && new FlashHeads(attention).Fit;

    private void FlashAttention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention)
    {
        FlashHeads heads = new(attention);
        using Scratch room = Take(OperandBytes(query, keyValue, keyRope), nameof(Attention));
        KernelArguments arguments = RoundedOperands(query, keyValue, keyRope, room.Address);
        arguments.Add(Device(output));
        arguments.Add(Device(logSumExp));
        LaunchFlash(
            Flash(heads).Forward, attention, heads.ForwardBytes, query.Rows, FlashTileOrder.Queries, ref arguments);
    }

    private void FlashAttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention)
    {
        const string Purpose = nameof(AttentionBackward);
        FlashHeads heads = new(attention);
        int tokens = query.Rows;
        long rows = (long)tokens * attention.Heads;
        using Scratch room = Take(OperandBytes(query, keyValue, keyRope, gradOutput), Purpose);
        using Scratch statisticsRoom = Take(rows * FlashHeads.StatisticsColumns * sizeof(float), Purpose);
        using Scratch headKeyRope = Take(rows * attention.RopeDim * sizeof(float), Purpose);
        Tensor gradients = Rounded(gradOutput, room.Address + (nint)OperandBytes(query, keyValue, keyRope));
        Tensor statistics = new(
            statisticsRoom.Address, new TensorShape(tokens, attention.Heads * FlashHeads.StatisticsColumns));

        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(output));
        arguments.Add(Device(logSumExp));
        arguments.Add(gradients.Address);
        arguments.Add(statistics.Address);
        LaunchShape warps = new(new(Dim3.Cover(rows, BlockThreads / WarpThreads)), new(BlockThreads));
        Launch(RoundGradient, warps, ref arguments);

        KernelArguments operands = RoundedOperands(query, keyValue, keyRope, room.Address);
        operands.Add(OperandMap(gradients));
        arguments = operands;
        arguments.Add(Device(gradQuery));
        arguments.Add(statistics.Address);
        LaunchFlash(
            Flash(heads).QueryGradient, attention, heads.QueryGradientBytes, tokens, FlashTileOrder.Queries,
            ref arguments);

        arguments = operands;
        arguments.Add(new CudaTensorMap(statistics, FlashHeads.BoxRows, FlashHeads.StatisticsColumns));
        arguments.Add(Device(gradKeyValue));
        arguments.Add(headKeyRope.Address);
        LaunchFlash(
            Flash(heads).KeyGradient, attention, heads.KeyGradientBytes, tokens, FlashTileOrder.Keys, ref arguments);
        AddHeadKeyRope(headKeyRope.Address, gradKeyRope, attention.Heads);
    }

    private FlashKernels Flash(in FlashHeads heads)
    {
        if (!_flashKernels.TryGetValue(heads, out FlashKernels? kernels))
        {
            kernels = new(
                _library.Kernel("Attention/FlashAttention.cu", "flash_attention", heads.Options),
                _library.Kernel("Attention/FlashQueryGradient.cu", "flash_query_gradient", heads.Options),
                _library.Kernel("Attention/FlashKeyGradient.cu", "flash_key_gradient", heads.Options));
            _flashKernels.Add(heads, kernels);
        }

        return kernels;
    }

    /// <summary>Rounds queries, keys and values to <paramref name="room"/>; gives their tensor maps.</summary>
    private KernelArguments RoundedOperands(Tensor query, Tensor keyValue, Tensor keyRope, nint room)
    {
        KernelArguments maps = new();
        nint address = room;
        foreach (Tensor source in (ReadOnlySpan<Tensor>)[query, keyValue, keyRope])
        {
            Tensor rounded = Rounded(source, address);
            address += (nint)OperandBytes(source);
            KernelArguments arguments = new();
            arguments.Add(Device(source));
            arguments.Add(rounded.Address);
            LaunchShape groups = new(new(Dim3.Cover(source.Count / RoundedGroup, BlockThreads)), new(BlockThreads));
            Launch(RoundOperand, groups, ref arguments);
            maps.Add(OperandMap(rounded));
        }

        return maps;
    }

    private void LaunchFlash(
        CudaKernel kernel, in AttentionShape attention, int sharedBytes, int tokens, FlashTileOrder order,
        ref KernelArguments arguments)
    {
        nint tiles = UploadFlashTiles(attention.SequenceStarts, order, out int count);
        arguments.Add(new FlashArguments(tiles, attention.Heads, tokens, attention.Scale));
        Launch(
            kernel, new(new((uint)(count * attention.Heads)), new(FlashHeads.Threads), sharedBytes), ref arguments);
    }

    /// <summary>Tiles of each sequence's rows on the device, those with the most work first: a block starts when one
    /// before it ends, so the last to end are short.</summary>
    private nint UploadFlashTiles(int[] starts, FlashTileOrder order, out int count)
    {
        ListTiles(starts, FlashHeads.TileRows);
        _tiles.Sort(order == FlashTileOrder.Queries ? FlashTiles.ByKeysBefore : FlashTiles.ByQueriesBehind);
        count = _tiles.Count;
        return Submission.Upload<TokenTile>(CollectionsMarshal.AsSpan(_tiles));
    }

    private static Tensor Rounded(Tensor source, nint address) =>
        new(address, new TensorShape(source.Rows, source.Columns), DType.BFloat16);

    private static CudaTensorMap OperandMap(Tensor rounded) =>
        new(rounded, FlashHeads.BoxRows, FlashHeads.BoxColumns, TensorMapSwizzle.Bytes128);

    /// <summary>Bytes of the operands as bfloat16, each a multiple of what the copy engine wants.</summary>
    private static long OperandBytes(params ReadOnlySpan<Tensor> sources)
    {
        const int Alignment = 256;
        long bytes = 0;
        foreach (Tensor source in sources)
        {
            bytes += ((source.Count * 2) + Alignment - 1) / Alignment * Alignment;
        }

        return bytes;
    }

    /// <summary>What the tiles' work is counted in.</summary>
    private enum FlashTileOrder
    {
        /// <summary>Keys before the end of a tile of queries.</summary>
        Queries,

        /// <summary>Queries behind the beginning of a tile of keys.</summary>
        Keys,
    }

    /// <summary>Orders of tiles, the most work first, then as they come.</summary>
    private static class FlashTiles
    {
        public static readonly Comparison<TokenTile> ByKeysBefore =
            (a, b) => (b.End - b.Start, a.First).CompareTo((a.End - a.Start, b.First));

        public static readonly Comparison<TokenTile> ByQueriesBehind =
            (a, b) => (b.Stop - b.First, a.First).CompareTo((a.Stop - a.First, b.First));
    }

    private sealed record FlashKernels(CudaKernel Forward, CudaKernel QueryGradient, CudaKernel KeyGradient);

    /// <summary>Mirrors <c>Arguments</c> in <c>FlashShape.cuh</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct FlashArguments(nint Tiles, int Heads, int Tokens, float Scale);
}
