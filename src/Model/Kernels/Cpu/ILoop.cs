namespace Krewe.Model.Kernels.Cpu;

/// <summary>Body of a fork-join loop. A struct, so that a loop allocates nothing and its calls are direct.</summary>
public interface ILoop
{
    /// <summary>Does part <paramref name="index"/>; parts run in any order, on any thread, several at once.</summary>
    void Run(int index);
}
