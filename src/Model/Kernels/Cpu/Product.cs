namespace Krewe.Model.Kernels.Cpu;

/// <summary>Parts of a product of attention that causality makes useless.</summary>
internal enum CausalSkip
{
    /// <summary>Nothing is left out.</summary>
    None,

    /// <summary>C is queries by keys: tiles above the diagonal are not written.</summary>
    FutureColumns,

    /// <summary>A is queries by keys, zero above the diagonal: a query's chain ends with its last key.</summary>
    FutureKeys,

    /// <summary>A is keys by queries: a key's chain begins with the first query that sees it.</summary>
    PastQueries,
}

/// <summary>One matrix product C[M, N] (+)= A[M, K] B[K, N] with the storage of its operands.</summary>
internal unsafe struct Product
{
    /// <summary>
    /// A: row m at m * <see cref="AStride"/>, or column k at k * stride where <see cref="AByColumn"/>.
    /// </summary>
    public float* A;

    /// <summary>Floats between stored rows of A.</summary>
    public int AStride;

    /// <summary>True where A is stored as [K, M].</summary>
    public bool AByColumn;

    /// <summary>Stored row of A for each m, or null. Only where A is stored by row.</summary>
    public int* ARows;

    /// <summary>
    /// B: row k at k * <see cref="BStride"/>, or column n at n * stride where <see cref="BByColumn"/>.
    /// </summary>
    public float* B;

    /// <summary>Floats between stored rows of B.</summary>
    public int BStride;

    /// <summary>True where B is stored as [N, K].</summary>
    public bool BByColumn;

    /// <summary>Stored row of B for each k, or null. Only where B is stored by row.</summary>
    public int* BRows;

    /// <summary>C, by row.</summary>
    public float* C;

    /// <summary>Floats between rows of C.</summary>
    public int CStride;

    /// <summary>Rows of C.</summary>
    public int M;

    /// <summary>Columns of C.</summary>
    public int N;

    /// <summary>Inner dimension.</summary>
    public int K;

    /// <summary>
    /// Length of the chains where K is more: later ones begin at zero and are added to C. 0 for one chain. Only where A is
    /// stored by column and B by row.
    /// </summary>
    public int ChainLength;

    /// <summary>The chains begin at the old C.</summary>
    public bool Accumulate;

    /// <summary>What causality lets the product leave out.</summary>
    public CausalSkip Skip;

    /// <summary>The diagonal of <see cref="Skip"/>: query m sees keys up to m + Diagonal.</summary>
    public int Diagonal;

    /// <summary>Rows of a task's tile; set by the planner.</summary>
    public int TileRows;

    /// <summary>Columns of a task's tile; set by the planner.</summary>
    public int TileColumns;

    /// <summary>First task of this product in its launch; set by the planner.</summary>
    public int FirstTask;
}
