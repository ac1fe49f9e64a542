namespace Krewe.Model.Pipeline;

/// <summary>In which order the ranks of a pipeline work through the micro-batches of a step.</summary>
public enum PipelineMethod
{
    /// <summary>One micro-batch after the other.</summary>
    Sequential,

    /// <summary>1F1B: one forward, one backward in turn; as many live micro-batches as ranks at most.</summary>
    OneForwardOneBackward,

    /// <summary>ZB1P: 1F1B whose backward is split, so that weight gradients fill the waiting at both ends.</summary>
    ZeroBubble,

    /// <summary>
    /// DualPipe: micro-batches enter from both ends, every rank holds a stage of each direction, and a forward of one
    /// direction overlaps a backward of the other.
    /// </summary>
    DualPipe,

    /// <summary>DualPipe cut in half: one direction that runs down the ranks and up again, two stages each.</summary>
    DualPipeV,
}

/// <summary>The methods' names on command lines and in files.</summary>
public static class PipelineMethods
{
    private static readonly string[] _names = ["sequential", "1f1b", "zb1p", "dualpipe", "dualpipev"];

    /// <summary>The known names, in the order of <see cref="PipelineMethod"/>.</summary>
    public static IReadOnlyList<string> Names => _names;

    /// <summary>The name of <paramref name="method"/>: <c>dualpipe</c>.</summary>
    public static string Name(this PipelineMethod method) => _names[(int)method];

    /// <summary>The method called <paramref name="name"/>; upper and lower case are one.</summary>
    /// <exception cref="KreweException">There is none; the message lists the known ones.</exception>
    public static PipelineMethod Parse(string name)
    {
        int index = Array.FindIndex(_names, known => known.Equals(name, StringComparison.OrdinalIgnoreCase));
        return index >= 0
            ? (PipelineMethod)index
            : throw new KreweException($"no pipeline method '{name}'; known: {string.Join(", ", _names)}");
    }
}
