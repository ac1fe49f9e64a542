namespace Krewe.Model.Kernels.Cpu;

/// <summary>One product C[M, N] (+)= A[M, K] B[N, K]^T of quantised operands, as the tasks of a launch read it.</summary>
internal unsafe struct ScaledOperands
{
    /// <summary>Left operand.</summary>
    public Side A;

    /// <summary>Right operand.</summary>
    public Side B;

    /// <summary>C, by row.</summary>
    public float* C;

    /// <summary>Floats between rows of C.</summary>
    public int CStride;

    /// <summary>Rows of C.</summary>
    public int M;

    /// <summary>Columns of C.</summary>
    public int N;

    /// <summary>Length of the sums.</summary>
    public int K;

    /// <summary>Elements of K under one pair of scales.</summary>
    public int SliceDepth;

    /// <summary>The sums begin at the old C.</summary>
    public bool Accumulate;

    /// <summary>First task of this product in its launch.</summary>
    public int FirstTask;

    /// <summary>An operand: codes [rows, K] and scales [tiles, slices], or columns of larger ones.</summary>
    public struct Side
    {
        /// <summary>Codes of one byte, by row.</summary>
        public byte* Codes;

        /// <summary>Scales, by row of tiles.</summary>
        public float* Scales;

        /// <summary>Codes from row to row.</summary>
        public int Pitch;

        /// <summary>Scales from row of tiles to row of tiles.</summary>
        public int Slices;

        /// <summary>Stored row for each row, or null.</summary>
        public int* Rows;

        /// <summary>Rows under one scale.</summary>
        public int TileRows;

        /// <summary>True for E5M2, else E4M3.</summary>
        public bool IsE5M2;

        /// <summary>Stored row of a row of the product.</summary>
        public readonly int RowOf(int row) => Rows == null ? row : Rows[row];
    }
}
