using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <summary>A tensor as kernels take it; mirrors <c>Matrix</c> and <c>IntMatrix</c> in <c>Tensors.cuh</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceMatrix(Tensor tensor)
{
    private readonly nint _data = tensor.Address;
    private readonly int _rows = tensor.IsEmpty ? 0 : tensor.Rows;
    private readonly int _columns = tensor.Columns;
    private readonly int _stride = tensor.RowStride;

    public int Rows => _rows;

    public int Columns => _columns;
}

/// <summary>An index tensor to be looked at; mirrors <c>IndexCheck</c> in <c>Checks.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceIndexCheck(
    Tensor indices, int limit, bool allowNegative, int argument, KernelFaultKind kind)
{
    private readonly DeviceMatrix _indices = new(indices);
    private readonly int _limit = limit;
    private readonly int _allowNegative = allowNegative ? 1 : 0;
    private readonly int _argument = argument;
    private readonly int _kind = (int)kind;
}

/// <summary>A few of them by value; mirrors <c>OwnIndexChecks</c> in <c>Checks.cu</c>.</summary>
[InlineArray(Count)]
internal struct OwnIndexChecks
{
    /// <summary>How many.</summary>
    public const int Count = 4;

    private DeviceIndexCheck _first;
}

/// <summary>A tensor whose squares are summed; mirrors <c>Summed</c> in <c>Elementwise.cu</c>.</summary>
/// <param name="Values">The tensor.</param>
/// <param name="FirstTile">Blocks of the tensors before this one.</param>
/// <param name="Blocks">Its own.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceSquares(DeviceMatrix Values, int FirstTile, int Blocks);

/// <summary>
/// A matrix in float32 or bfloat16; mirrors <c>Stored</c> in <c>BFloat16.cuh</c> and <c>Moment</c> in <c>Optimizer.cu</c>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceStored(Tensor tensor)
{
    private readonly nint _data = tensor.Address;
    private readonly int _stride = tensor.RowStride;
    private readonly int _half = tensor.DType == DType.BFloat16 ? 1 : 0;
}

/// <summary>A parameter of AdamW; mirrors <c>Parameter</c> in <c>Optimizer.cu</c>. Without gaps it is one row.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceAdamWParameter
{
    private readonly DeviceMatrix _weight;
    private readonly DeviceMatrix _gradient;
    private readonly DeviceStored _first;
    private readonly DeviceStored _second;
    private readonly nint _rounded;
    private readonly int _roundedStride;
    private readonly int _decays;
    private readonly int _firstBlock;

    public DeviceAdamWParameter(in AdamWParameter parameter, int firstBlock)
    {
        (Tensor weight, Tensor gradient, Tensor first, Tensor second, bool decays, Tensor rounded) = parameter;
        if (weight.IsDense && gradient.IsDense && first.IsDense && second.IsDense && rounded.IsDense
            && weight.Count <= int.MaxValue)
        {
            TensorShape row = new(1, (int)weight.Count);
            (weight, gradient) = (weight.Reshape(row), gradient.Reshape(row));
            (first, second) = (first.Reshape(row), second.Reshape(row));
        }

        _weight = new(weight);
        _gradient = new(gradient);
        _first = new(first);
        _second = new(second);
        _rounded = rounded.Address;
        _roundedStride = rounded.RowStride;
        _decays = decays ? 1 : 0;
        _firstBlock = firstBlock;
    }

    /// <summary>Blocks that cover it.</summary>
    /// <param name="blockColumns">Columns of a block.</param>
    public int Blocks(int blockColumns) => checked(_weight.Rows * (int)Dim3.Cover(_weight.Columns, blockColumns));
}

/// <summary>Rates of a step; mirrors <c>Step</c> in <c>Optimizer.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceAdamWStep(in AdamWStep step)
{
    private readonly float _decay = step.LearningRate * step.WeightDecay;
    private readonly float _stepSize = (float)(step.LearningRate / (1 - Math.Pow(step.Beta1, step.Step)));
    private readonly float _correction = (float)(1 - Math.Pow(step.Beta2, step.Step));
    private readonly float _beta1 = step.Beta1;
    private readonly float _beta2 = step.Beta2;
    private readonly float _epsilon = step.Epsilon;
    private readonly float _gradientScale = step.GradientScale;
}

/// <summary>Sizes of attention; mirrors <c>AttentionSizes</c> in <c>AttentionTiles.cuh</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceAttention(in AttentionShape shape, int tokens)
{
    private readonly int _heads = shape.Heads;
    private readonly int _nope = shape.NopeDim;
    private readonly int _rope = shape.RopeDim;
    private readonly int _value = shape.ValueDim;
    private readonly float _scale = shape.Scale;
    private readonly int _tokens = tokens;
    private readonly int _rounded = shape.Operand == DType.BFloat16 ? 1 : 0;
}

/// <summary>Tokens [first, end) of the sequence [start, stop); mirrors <c>TokenTile</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct TokenTile(int Start, int Stop, int First, int End);

/// <summary>Rules of the gate; mirrors <c>Routing</c> in <c>Routing.cu</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct DeviceRouting(in RoutingShape routing)
{
    private readonly int _experts = routing.Experts;
    private readonly int _topK = routing.TopK;
    private readonly int _groups = routing.Groups;
    private readonly int _keptGroups = routing.KeptGroups;
    private readonly int _softmax = routing.Softmax ? 1 : 0;
    private readonly int _groupByTopTwo = routing.GroupByTopTwo ? 1 : 0;
    private readonly int _normalize = routing.Normalize ? 1 : 0;
    private readonly float _scalingFactor = routing.ScalingFactor;
}

/// <summary>One product; mirrors <c>Product</c> in <c>MatrixProducts.cu</c>.</summary>
/// <param name="A">Left operand; its rows, or columns where it lies across, are the result's rows.</param>
/// <param name="B">Right operand.</param>
/// <param name="C">Result [m, n].</param>
/// <param name="Gather">Int32 rows of the gathered operand, or 0.</param>
/// <param name="Range">Begin and end of the product's own rows, or part of the inner dimension, on the device; or 0.</param>
/// <param name="Chains">Room for the chains but the first that have blocks of their own: [ChainBlocks - 1, m, n].</param>
/// <param name="M">Rows of the result; with a range about as many as it has.</param>
/// <param name="N">Columns of the result.</param>
/// <param name="K">Inner dimension.</param>
/// <param name="StrideA">Elements from row to row.</param>
/// <param name="StrideB">Elements from row to row.</param>
/// <param name="StrideC">Elements from row to row.</param>
/// <param name="Accumulate">1 to add to the result.</param>
/// <param name="FirstTile">Tiles of the products before this one.</param>
/// <param name="ChainBlocks">Chains of a tile that have blocks of their own; 1 where one block takes all.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceProduct(
    nint A, nint B, nint C, nint Gather, nint Range, nint Chains, int M, int N, int K, int StrideA, int StrideB, int StrideC,
    int Accumulate, int FirstTile, int ChainBlocks);
