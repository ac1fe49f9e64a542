namespace Krewe.Model.Kernels.Cpu;

/// <summary>The innermost product of one instruction set: a tile of the output kept in registers.</summary>
internal unsafe interface IMicroKernel
{
    /// <summary>Columns of a tile.</summary>
    static abstract int Columns { get; }

    /// <summary>Rows of the next tile when <paramref name="rows"/> are left: the largest that has a kernel.</summary>
    static abstract int PanelRows(int rows);

    /// <summary>
    /// c[i, j] = chain over k of fma(a[k * aStep + i], b[k * bStep + j], c[i, j]), the chain beginning at 0 or, where
    /// <paramref name="load"/>, at c's old value. All of <see cref="Columns"/> columns are read and written.
    /// </summary>
    /// <param name="rows">A value of <see cref="PanelRows"/>.</param>
    /// <param name="a">Left operand, the rows of the tile side by side.</param>
    /// <param name="aStep">Floats from one k to the next.</param>
    /// <param name="b">Right operand.</param>
    /// <param name="bStep">Floats from one k to the next.</param>
    /// <param name="depth">Length of the chain.</param>
    /// <param name="c">Tile of the output.</param>
    /// <param name="cStep">Floats from one row to the next.</param>
    /// <param name="load">Continues from c.</param>
    static abstract void Multiply(
        int rows, float* a, nint aStep, float* b, nint bStep, int depth, float* c, nint cStep, bool load);
}
