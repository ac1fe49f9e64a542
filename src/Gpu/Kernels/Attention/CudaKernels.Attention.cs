using System.Runtime.InteropServices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>Attention and its gradient; <c>Attention.cu</c>, <c>AttentionBackward.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int AttentionThreads = 128;
    private const int AttentionRows = 16;
    private const int AttentionKeys = 32;
    private readonly List<TokenTile> _tiles = [];

    private CudaKernel AttentionKernel => field ??= _library.Kernel("Attention/Attention.cu", "attention");

    private CudaKernel AttentionDelta => field ??= _library.Kernel("Attention/AttentionBackward.cu", "attention_delta");

    private CudaKernel AttentionBackwardQuery =>
        field ??= _library.Kernel("Attention/AttentionBackward.cu", "attention_backward_query");

    private CudaKernel AttentionBackwardKey =>
        field ??= _library.Kernel("Attention/AttentionBackward.cu", "attention_backward_key");

    private CudaKernel SumHeadKeyRope => field ??= _library.Kernel("Attention/AttentionBackward.cu", "sum_head_key_rope");

    /// <inheritdoc/>
    public void Attention(
        Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp, in AttentionShape attention)
    {
        KernelChecks.Attention(query, keyValue, keyRope, output, logSumExp, attention);
        if (query.Rows == 0)
        {
            return;
        }

        if (IsFlash(attention))
        {
            FlashAttention(query, keyValue, keyRope, output, logSumExp, attention);
            return;
        }

        nint tiles = UploadTiles(attention.SequenceStarts, out int count);
        KernelArguments arguments = new();
        arguments.Add(Device(query));
        arguments.Add(Device(keyValue));
        arguments.Add(Device(keyRope));
        arguments.Add(Device(output));
        arguments.Add(Device(logSumExp));
        arguments.Add(new DeviceAttention(attention, query.Rows));
        arguments.Add(tiles);
        (int key, int value) = Pads(attention);
        int floats = (AttentionRows * (key + value + AttentionKeys + 3)) + (AttentionKeys * (key + 1 + value));
        Launch(AttentionKernel, TilesByHeads(count, attention.Heads, floats), ref arguments);
    }

    /// <inheritdoc/>
    public void AttentionBackward(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor output, Tensor logSumExp,
        Tensor gradQuery, Tensor gradKeyValue, Tensor gradKeyRope, in AttentionShape attention)
    {
        KernelChecks.AttentionBackward(
            gradOutput, query, keyValue, keyRope, output, logSumExp, gradQuery, gradKeyValue, gradKeyRope, attention);
        if (query.Rows == 0)
        {
            return;
        }

        if (IsFlash(attention))
        {
            FlashAttentionBackward(
                gradOutput, query, keyValue, keyRope, output, logSumExp, gradQuery, gradKeyValue, gradKeyRope,
                attention);
            return;
        }

        int tokens = query.Rows;
        int heads = attention.Heads;
        (int key, int value) = Pads(attention);
        var sizes = new DeviceAttention(attention, tokens);
        nint tiles = UploadTiles(attention.SequenceStarts, out int count);
        using Scratch delta = Take((long)heads * tokens * sizeof(float), nameof(AttentionBackward));
        using Scratch headKeyRope = Take(
            (long)heads * tokens * attention.RopeDim * sizeof(float), nameof(AttentionBackward));

        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(output));
        arguments.Add(sizes);
        arguments.Add(delta.Address);
        Launch(
            AttentionDelta, new(new(Dim3.Cover(tokens, AttentionThreads), (uint)heads), new(AttentionThreads)),
            ref arguments);

        arguments = Inputs(gradOutput, query, keyValue, keyRope, logSumExp, delta.Address);
        arguments.Add(Device(gradQuery));
        arguments.Add(sizes);
        arguments.Add(tiles);
        int floats = (AttentionRows * ((2 * key) + value + AttentionKeys)) + (AttentionKeys * (key + value + 2));
        Launch(AttentionBackwardQuery, TilesByHeads(count, heads, floats), ref arguments);

        arguments = Inputs(gradOutput, query, keyValue, keyRope, logSumExp, delta.Address);
        arguments.Add(Device(gradKeyValue));
        arguments.Add(headKeyRope.Address);
        arguments.Add(sizes);
        arguments.Add(tiles);
        floats = AttentionRows * ((3 * (key + value)) + 2 + (2 * AttentionRows));
        Launch(AttentionBackwardKey, TilesByHeads(count, heads, floats), ref arguments);

        AddHeadKeyRope(headKeyRope.Address, gradKeyRope, heads);
    }

    private void AddHeadKeyRope(nint headKeyRope, Tensor gradKeyRope, int heads)
    {
        KernelArguments arguments = new();
        arguments.Add(headKeyRope);
        arguments.Add(Device(gradKeyRope));
        arguments.Add(heads);
        Launch(SumHeadKeyRope, Elements(gradKeyRope), ref arguments);
    }

    private static KernelArguments Inputs(
        Tensor gradOutput, Tensor query, Tensor keyValue, Tensor keyRope, Tensor logSumExp, nint delta)
    {
        KernelArguments arguments = new();
        arguments.Add(Device(gradOutput));
        arguments.Add(Device(query));
        arguments.Add(Device(keyValue));
        arguments.Add(Device(keyRope));
        arguments.Add(Device(logSumExp));
        arguments.Add(delta);
        return arguments;
    }

    /// <summary>Columns of a tile of keys and of values: multiples of four.</summary>
    private static (int Key, int Value) Pads(in AttentionShape attention) =>
        ((attention.NopeDim + attention.RopeDim + 3) / 4 * 4, (attention.ValueDim + 3) / 4 * 4);

    private static LaunchShape TilesByHeads(int tiles, int heads, int sharedFloats) =>
        new(new((uint)tiles, (uint)heads), new(AttentionThreads), sharedFloats * sizeof(float));

    /// <summary>Tiles of each sequence's rows, in order, on the device.</summary>
    private nint UploadTiles(int[] starts, out int count)
    {
        ListTiles(starts, AttentionRows);
        count = _tiles.Count;
        return Submission.Upload<TokenTile>(CollectionsMarshal.AsSpan(_tiles));
    }

    private void ListTiles(int[] starts, int rows)
    {
        _tiles.Clear();
        for (int s = 0; s + 1 < starts.Length; s++)
        {
            for (int first = starts[s]; first < starts[s + 1]; first += rows)
            {
                _tiles.Add(new(starts[s], starts[s + 1], first, Math.Min(first + rows, starts[s + 1])));
            }
        }
    }
}
