using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>Operands stored in bfloat16: products read float32 copies, which hold the same values.</content>
public sealed unsafe partial class CpuKernels
{
    /// <summary>Elements of the copies that a launch needs.</summary>
    private static long WidenedElements(ReadOnlySpan<GroupedProduct> products, Form form)
    {
        long elements = 0;
        foreach (ref readonly GroupedProduct product in products)
        {
            if (product.Input.DType == DType.BFloat16)
            {
                Tensor other = form == Form.BackwardWeight ? product.Output : product.Weight;
                elements += ((long)product.Output.Rows * product.Input.Columns) + other.Count;
            }
        }

        return elements;
    }

    /// <summary>The product over float32 operands; copies are taken off <paramref name="room"/>, gathers are done.
    /// </summary>
    private GroupedProduct Widen(in GroupedProduct product, Form form, ref float* room)
    {
        if (product.Input.DType != DType.BFloat16)
        {
            return product;
        }

        Tensor input = Widen(product.Input, product.InputRows.Ints, product.Output.Rows, ref room);
        return form == Form.BackwardWeight
            ? new(input, product.Weight, Widen(product.Output, null, product.Output.Rows, ref room))
            : new(
                input, Widen(product.Weight, null, product.Weight.Rows, ref room), product.Output,
                Accumulate: product.Accumulate);
    }

    private Tensor Widen(Tensor stored, int* rows, int count, ref float* room)
    {
        Tensor wide = new((nint)room, new(count, stored.Columns));
        For(count, wide.Count, new WidenLoop(stored, rows, wide));
        room += wide.Count;
        return wide;
    }

    private readonly struct WidenLoop(Tensor stored, int* rows, Tensor wide) : ILoop
    {
        public void Run(int index)
        {
            int row = rows == null ? index : rows[index];
            ushort* from = (ushort*)stored.Address + ((nint)row * stored.RowStride);
            float* to = RowAddress(wide, index);
            for (int i = 0; i < wide.Columns; i += VectorMath.Width)
            {
                int left = wide.Columns - i;
                VectorMath.Store(BFloat16.Load(from + i, left), to + i, left);
            }
        }
    }
}
