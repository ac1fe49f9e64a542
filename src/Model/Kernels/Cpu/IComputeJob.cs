namespace Krewe.Model.Kernels.Cpu;

/// <summary>Work that occupies one pool thread, as the master of its loops.</summary>
public interface IComputeJob
{
    /// <summary>Does the work. It must not throw: the pool has nobody to tell.</summary>
    void Run();
}
