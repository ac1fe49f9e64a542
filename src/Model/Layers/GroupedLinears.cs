using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Model.Layers;

/// <summary>
/// Collects products of many weights of one precision and runs them in one launch: all of one of the three forms.
/// </summary>
internal sealed class GroupedLinears
{
    /// <summary>Rows up to which two products of one input, in tiles, are faster in one launch.</summary>
    private const int FewRows = 64;

    private GroupedProduct[] _plain = [];
    private ScaledProduct[] _scaled = [];
    private int _count;
    private bool _tiled;

    private ReadOnlySpan<GroupedProduct> Plain => _plain.AsSpan(0, _count);

    /// <summary>
    /// The two products of one input: in one launch where they have tiles and few rows, whose bits do not depend on that.
    /// </summary>
    public void ForwardBoth(
        IKernels kernels, Linear first, Tensor firstOutput, Linear second, Tensor secondOutput, in Operand input)
    {
        if (first.Precision.IsTiled && input.Rows.Rows <= FewRows)
        {
            Clear();
            AddForward(kernels, first, input, firstOutput);
            AddForward(kernels, second, input, secondOutput);
            LaunchForward(kernels);
            return;
        }

        first.Forward(kernels, input, firstOutput);
        second.Forward(kernels, input, secondOutput);
    }

    /// <summary>Forgets products that a launch which failed has left; their memory serves something else by now.</summary>
    public void Clear() => _count = 0;

    /// <summary>output = input weight^T.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="linear">The weight.</param>
    /// <param name="input">[R, D].</param>
    /// <param name="output">[M, N].</param>
    /// <param name="rows">Int32 [M]: which rows of the input, or empty for all.</param>
    /// <param name="range">Int32 [2] on the device: the rows that are this weight's, or empty for all.</param>
    public void AddForward(
        IKernels kernels, Linear linear, in Operand input, Tensor output, Tensor rows = default, Tensor range = default)
    {
        if (Next(linear))
        {
            _scaled[_count++] = new(input.Rows, linear.Rows(kernels), output, rows, Range: range);
        }
        else
        {
            _plain[_count++] = new(input.Values, linear.Values(kernels), output, rows, Range: range);
        }
    }

    /// <summary>gradInput = gradOutput weight, or added to it.</summary>
    public void AddBackwardInput(
        IKernels kernels, Linear linear, in Operand gradOutput, Tensor gradInput, bool accumulate = false,
        Tensor range = default)
    {
        if (Next(linear))
        {
            _scaled[_count++] = new(
                gradOutput.Rows, linear.Columns(kernels), gradInput, Accumulate: accumulate, Range: range);
        }
        else
        {
            _plain[_count++] = new(
                gradOutput.Values, linear.Values(kernels), gradInput, Accumulate: accumulate, Range: range);
        }
    }

    /// <summary>gradWeight += gradOutput^T input.</summary>
    /// <param name="linear">The weight.</param>
    /// <param name="gradOutput">[M, N].</param>
    /// <param name="input">[R, D]; its turned tiles hold the M rows already.</param>
    /// <param name="rows">Int32 [M]: which rows of the input, or empty for all.</param>
    /// <param name="range">Int32 [2] on the device: the rows that are this weight's, or empty for all.</param>
    /// <param name="columns">The same of turned tiles: which of their columns.</param>
    public void AddBackwardWeight(
        Linear linear, in Operand gradOutput, in Operand input, Tensor rows = default, Tensor range = default,
        Tensor columns = default)
    {
        if (Next(linear))
        {
            _scaled[_count++] = new(
                gradOutput.Columns, input.Columns, linear.Weight.Gradient, Accumulate: true, Depth: columns);
        }
        else
        {
            _plain[_count++] = new(input.Values, linear.Weight.Gradient, gradOutput.Values, rows, Range: range);
        }
    }

    /// <summary>Runs the forward products that were added.</summary>
    public void LaunchForward(IKernels kernels)
    {
        if (!LaunchScaled(kernels))
        {
            kernels.GroupedLinear(Plain);
        }

        _count = 0;
    }

    /// <summary>Runs the data gradients that were added.</summary>
    public void LaunchBackwardInput(IKernels kernels)
    {
        if (!LaunchScaled(kernels))
        {
            kernels.GroupedLinearBackwardInput(Plain);
        }

        _count = 0;
    }

    /// <summary>Runs the weight gradients that were added.</summary>
    public void LaunchBackwardWeight(IKernels kernels)
    {
        if (!LaunchScaled(kernels))
        {
            kernels.GroupedLinearBackwardWeight(Plain);
        }

        _count = 0;
    }

    private bool LaunchScaled(IKernels kernels)
    {
        if (_tiled)
        {
            kernels.GroupedScaledLinear(_scaled.AsSpan(0, _count));
        }

        return _tiled;
    }

    /// <summary>Makes room for one product; true where it has tiles.</summary>
    private bool Next(Linear linear)
    {
        _tiled = linear.Precision.IsTiled;
        if (_tiled && _scaled.Length == _count)
        {
            Array.Resize(ref _scaled, Math.Max(16, 2 * _count));
        }
        else if (!_tiled && _plain.Length == _count)
        {
            Array.Resize(ref _plain, Math.Max(16, 2 * _count));
        }

        return _tiled;
    }
}
