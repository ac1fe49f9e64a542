using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Matrix products: all forms are one blocked product over operands stored by row or by column.</content>
public sealed unsafe partial class CpuKernels
{
    private enum Form
    {
        Forward,
        BackwardInput,
        BackwardWeight,
    }

    /// <inheritdoc/>
    public void Linear(Tensor input, Tensor weight, Tensor output, bool accumulate = false)
    {
        KernelChecks.Linear(input, weight, output);
        Multiply([new(input, weight, output, default, accumulate)], Form.Forward);
    }

    /// <inheritdoc/>
    public void LinearBackwardInput(Tensor gradOutput, Tensor weight, Tensor gradInput, bool accumulate = false)
    {
        KernelChecks.LinearBackwardInput(gradOutput, weight, gradInput);
        Multiply([new(gradOutput, weight, gradInput, default, accumulate)], Form.BackwardInput);
    }

    /// <inheritdoc/>
    public void LinearBackwardWeight(Tensor gradOutput, Tensor input, Tensor gradWeight)
    {
        KernelChecks.LinearBackwardWeight(gradOutput, input, gradWeight);
        Multiply([new(input, gradWeight, gradOutput)], Form.BackwardWeight);
    }

    /// <inheritdoc/>
    public void GroupedLinear(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinear(products);
        Multiply(products, Form.Forward);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardInput(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardInput(products);
        Multiply(products, Form.BackwardInput);
    }

    /// <inheritdoc/>
    public void GroupedLinearBackwardWeight(ReadOnlySpan<GroupedProduct> products)
    {
        KernelChecks.GroupedLinearBackwardWeight(products);
        Multiply(products, Form.BackwardWeight);
    }

    private void Multiply(ReadOnlySpan<GroupedProduct> products, Form form)
    {
        float* room = Scratch.Current.Floats(ScratchUse.Widened, WidenedElements(products, form));
        Product* list = (Product*)Scratch.Current.Bytes(
            ScratchUse.Products, Math.Max(1, products.Length) * sizeof(Product));
        for (int i = 0; i < products.Length; i++)
        {
            list[i] = Describe(Widen(products[i].Resolved(), form, ref room), form);
        }

        Launch(list, products.Length);
    }

    private static Product Describe(in GroupedProduct product, Form form)
    {
        Product p = default;
        Tensor input = product.Input;
        Tensor weight = product.Weight;
        Tensor output = product.Output;
        switch (form)
        {
            case Form.Forward:
            case Form.BackwardInput:
                p.A = input.Floats;
                p.AStride = input.RowStride;
                p.ARows = product.InputRows.Ints;
                p.B = weight.Floats;
                p.BStride = weight.RowStride;
                p.BByColumn = form == Form.Forward;
                p.C = output.Floats;
                p.CStride = output.RowStride;
                (p.M, p.N) = (output.Rows, output.Columns);
                p.K = form == Form.Forward ? weight.Columns : weight.Rows;
                p.Accumulate = product.Accumulate;
                break;
            default:
                p.A = output.Floats;
                p.AStride = output.RowStride;
                p.AByColumn = true;
                p.B = input.Floats;
                p.BStride = input.RowStride;
                p.BRows = product.InputRows.Ints;
                p.C = weight.Floats;
                p.CStride = weight.RowStride;
                (p.M, p.N, p.K) = (weight.Rows, weight.Columns, output.Rows);
                p.Accumulate = true;
                p.ChainLength = IKernels.RowsOfChain;
                break;
        }

        return p;
    }

    private void Launch(Product* products, int count)
    {
        switch (_isa)
        {
            case Isa.Avx512:
                MatrixProduct<MicroKernel512>.Launch(_pool, products, count);
                break;
            case Isa.Avx2:
                MatrixProduct<MicroKernel256>.Launch(_pool, products, count);
                break;
            default:
                MatrixProduct<MicroKernel128>.Launch(_pool, products, count);
                break;
        }
    }
}
