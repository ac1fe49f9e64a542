using Krewe.Model.Kernels;
using Krewe.Model.Kernels.Reference;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Layers;

/// <summary>The three products of a Linear under every recipe, against float64 over operands rounded by hand.</summary>
public sealed class LinearTests : IDisposable
{
    private const int Tokens = 140, Outputs = 150, Inputs = 200;

    private readonly ReferenceKernels _kernels = new();
    private readonly ReferenceDevice _device = new();
    private readonly TestTensors _data = new(3);
    private readonly Arena _arena;

    public LinearTests() => _arena = _device.CreateArena("micro-batch");

    public static TheoryData<string> Names => [.. PrecisionRecipe.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void Products_are_those_of_the_rounded_operands(string name)
    {
        ProductPrecision precision = PrecisionRecipe.Get(name).Linear;
        using var parameters = new ParameterSet(_device, "test");
        Linear linear = Create(parameters, precision);
        Tensor x = _data.Normal(Tokens, Inputs), g = _data.Normal(Tokens, Outputs, scale: 1e-6f);
        Operand input = Operand.Input(_kernels, _arena, x, precision);
        Operand gradient = Operand.Gradient(_kernels, _arena, g, precision);
        Tensor output = _arena.Allocate(Tokens, Outputs), gradInput = _arena.Allocate(Tokens, Inputs);

        linear.Forward(_kernels, input, output);
        linear.BackwardInput(_kernels, gradient, gradInput);
        linear.BackwardWeight(_kernels, gradient, input.ForWeightGradient(_kernels, _arena, precision));

        double[,] rows = Round(x, precision.Activation, precision, false);
        double[,] weight = Round(linear.Weight.Value, precision.Weight, precision, false);
        double[,] turnedWeight = Round(linear.Weight.Value, precision.Weight, precision, true);
        double[,] cached = Round(
            precision.RetilesCached ? ToTensor(rows) : x, precision.Activation, precision, turned: true);
        AssertNear(output, (t, n) => Sum(Inputs, d => rows[t, d] * weight[n, d]));
        double[,] gradRows = Round(g, precision.Gradient, precision, false);
        AssertNear(gradInput, (t, d) => Sum(Outputs, n => gradRows[t, n] * turnedWeight[n, d]));
        double[,] gradColumns = Round(g, precision.Gradient, precision, turned: true);
        AssertNear(linear.Weight.Gradient, (n, d) => Sum(Tokens, t => gradColumns[t, n] * cached[t, d]));
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public void A_step_makes_the_casts_anew(string name)
    {
        ProductPrecision precision = PrecisionRecipe.Get(name).Linear;
        using var parameters = new ParameterSet(_device, "test");
        Linear linear = Create(parameters, precision);
        Operand input = Operand.Input(_kernels, _arena, _data.Normal(3, Inputs), precision);
        Tensor before = _arena.Allocate(3, Outputs), after = _arena.Allocate(3, Outputs);
        linear.Forward(_kernels, input, before);

        foreach (ref float value in linear.Weight.Value.AsSpan<float>())
        {
            value *= 2;
        }

        parameters.AppliedStep++;
        linear.Forward(_kernels, input, after);

        for (int i = 0; i < before.Count; i++)
        {
            Assert.Equal(2 * before.AsSpan<float>()[i], after.AsSpan<float>()[i]);
        }
    }

    [Theory]
    [InlineData("bf16", DType.BFloat16)]
    [InlineData("bf16", DType.Float32)]
    [InlineData("fp8", DType.Float32)]
    public void The_optimizer_makes_the_casts_anew(string name, DType storage)
    {
        ProductPrecision precision = PrecisionRecipe.Get(name).Linear;
        var kernels = new StoringKernels(_kernels, storage);
        using var parameters = new ParameterSet(_device, "test");
        Linear linear = Create(parameters, precision);
        Operand input = Operand.Input(kernels, _arena, _data.Normal(3, Inputs), precision);
        Operand gradient = Operand.Gradient(kernels, _arena, _data.Normal(3, Outputs), precision);
        Tensor[] outputs = [_arena.Allocate(3, Outputs), _arena.Allocate(3, Outputs)];
        Tensor[] gradients = [_arena.Allocate(3, Inputs), _arena.Allocate(3, Inputs)];
        linear.Forward(kernels, input, outputs[0]);
        linear.BackwardInput(kernels, gradient, gradients[0]);
        linear.BackwardWeight(kernels, gradient, input.ForWeightGradient(kernels, _arena, precision));

        var step = new AdamWStep(0.5f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, 1);
        Tensor weight = Copy(linear.Weight.Value), first = _data.Filled(Outputs, Inputs, 0);
        kernels.AdamW([new(weight, Copy(linear.Weight.Gradient), first, Copy(first))], step);
        Optimizer.Apply(kernels, [parameters, parameters], step);
        linear.Forward(kernels, input, outputs[0]);
        linear.BackwardInput(kernels, gradient, gradients[0]);

        // The same, made from the weight as it is now.
        parameters.AppliedStep = 1;
        linear.Forward(kernels, input, outputs[1]);
        linear.BackwardInput(kernels, gradient, gradients[1]);
        TensorAssert.Same(outputs[1], outputs[0], "output");
        TensorAssert.Same(gradients[1], gradients[0], "gradient");
        Assert.All(linear.Weight.Gradient.AsSpan<float>().ToArray(), value => Assert.Equal(0, value));
        TensorAssert.Same(weight, linear.Weight.Value, "weight after one step");
    }

    [Fact]
    public void A_shared_set_has_one_cast()
    {
        using var parameters = new ParameterSet(_device, "test");
        Linear linear = Create(parameters, PrecisionRecipe.Fp8.Linear);
        using ParameterSet twin = parameters.Share();
        Assert.Same(linear, twin.AddLinear("weight", new(Outputs, Inputs), PrecisionRecipe.Fp8.Linear));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _arena.Dispose();
        _data.Dispose();
        _device.Dispose();
    }

    private Tensor Copy(Tensor source)
    {
        Tensor copy = _arena.Allocate(source.Shape);
        _kernels.Copy(source, copy);
        return copy;
    }

    private Linear Create(ParameterSet parameters, ProductPrecision precision)
    {
        Linear linear = parameters.AddLinear("weight", new(Outputs, Inputs), precision);
        _kernels.Copy(_data.Normal(Outputs, Inputs), linear.Weight.Value);
        parameters.PrepareForTraining(_kernels, DType.Float32);
        return linear;
    }

    /// <summary>What a precision keeps of a matrix; tiles of the turned one run along its rows.</summary>
    private static double[,] Round(Tensor source, TileFormat format, ProductPrecision precision, bool turned)
    {
        int rows = source.Rows, columns = source.Columns;
        var values = new float[rows * columns];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = turned ? source.Row(i % rows)[i / rows] : source.Row(i / columns)[i % columns];
        }

        int width = turned ? rows : columns;
        if (precision.IsTiled)
        {
            int height = turned ? columns : rows;
            var codes = new byte[values.Length];
            var scales = new float[format.TileRows(height) * format.TileColumns(width)];
            TileQuantization.Quantize(values, height, width, format, codes, scales);
            TileQuantization.Dequantize(codes, scales, height, width, format, values);
        }
        else if (precision.Operand == DType.BFloat16)
        {
            values = [.. values.Select(BFloat16Format.Round)];
        }

        var result = new double[rows, columns];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
            {
                result[r, c] = turned ? values[(c * rows) + r] : values[(r * columns) + c];
            }
        }

        return result;
    }

    private Tensor ToTensor(double[,] values)
    {
        Tensor tensor = _arena.Allocate(values.GetLength(0), values.GetLength(1));
        for (int i = 0; i < tensor.Count; i++)
        {
            tensor.AsSpan<float>()[i] = (float)values[i / tensor.Columns, i % tensor.Columns];
        }

        return tensor;
    }

    private static double Sum(int count, Func<int, double> term)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += term(i);
        }

        return sum;
    }

    private static void AssertNear(Tensor actual, Func<int, int, double> exact)
    {
        double error = 0, size = 0;
        for (int row = 0; row < actual.Rows; row++)
        {
            for (int column = 0; column < actual.Columns; column++)
            {
                double expected = exact(row, column);
                error += Math.Pow(actual.Row(row)[column] - expected, 2);
                size += expected * expected;
            }
        }

        Assert.InRange(Math.Sqrt(error / size), 0, 1e-6);
    }

    /// <summary>Kernels that want rounded operands kept so.</summary>
    private sealed class StoringKernels(IKernels inner, DType storage) : ForwardingKernels(inner)
    {
        public override DType BFloat16Storage => storage;
    }
}
