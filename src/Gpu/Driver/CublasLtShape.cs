using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>All of a product that the library's choice depends on.</summary>
internal readonly record struct CublasLtShape
{
    /// <summary>Of output[M, N] = left[M, K] right[N, K]^T; an operand across K is stored as [K, rows].</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public CublasLtShape(Tensor left, bool leftAcross, Tensor right, bool rightAcross, Tensor output)
    {
        Left = new(left, leftAcross);
        Right = new(right, rightAcross);
        Output = new(output, false);
        if (Left.Depth != Right.Depth || Output.Rows != Left.Rows || Output.Depth != Right.Rows
            || left.DType != right.DType)
        {
            throw new ArgumentException($"product: expected [M, K] [N, K]^T = [M, N], got {this}");
        }
    }

    /// <summary>Left operand.</summary>
    public Side Left { get; }

    /// <summary>Right operand.</summary>
    public Side Right { get; }

    /// <summary>The result.</summary>
    public Side Output { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{Left} {Right} {Output}";

    /// <summary>One matrix as it is stored.</summary>
    public readonly record struct Side
    {
        /// <summary>A matrix, with K as its columns or across K.</summary>
        public Side(Tensor tensor, bool across)
        {
            StoredRows = tensor.Rows;
            StoredColumns = tensor.Columns;
            RowStride = tensor.RowStride;
            DType = tensor.DType;
            Across = across;
        }

        /// <summary>Rows in memory.</summary>
        public int StoredRows { get; }

        /// <summary>Columns in memory.</summary>
        public int StoredColumns { get; }

        /// <summary>Elements from row to row.</summary>
        public int RowStride { get; }

        /// <summary>Element type.</summary>
        public DType DType { get; }

        /// <summary>Stored with K as its rows.</summary>
        public bool Across { get; }

        /// <summary>Rows of the operand.</summary>
        public int Rows => Across ? StoredColumns : StoredRows;

        /// <summary>Its extent along K.</summary>
        public int Depth => Across ? StoredRows : StoredColumns;

        /// <inheritdoc/>
        public override string ToString() =>
            $"{DType}[{StoredRows}, {StoredColumns}]{(Across ? " across" : "")}, stride {RowStride}";
    }
}
