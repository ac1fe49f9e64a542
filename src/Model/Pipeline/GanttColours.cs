namespace Krewe.Model.Pipeline;

/// <summary>Colours of a Gantt chart, apart also for readers who confuse red and green.</summary>
internal static class GanttColours
{
    /// <summary>Text on a page of either kind: mid grey, 4.5:1 against white and black alike.</summary>
    public const string Text = "#777";

    /// <summary>Lines and lanes, drawn translucent.</summary>
    public const string Line = "#888";

    /// <summary>By work; the second shade is chunk 1: the other direction or the second branch of the V.</summary>
    private static readonly (string Chunk0, string Chunk1)[] _fills =
    [
        ("#1f6fb4", "#5b9bd5"), // F, blue
        ("#b4530a", "#d98a3d"), // B, orange
        ("#8a2f6b", "#b8699c"), // I, purple
        ("#2e7d5b", "#5fa588"), // W, green
    ];

    /// <summary>Fill of a box.</summary>
    public static string Of(PipelineWork work, int chunk) =>
        chunk == 0 ? _fills[(int)work].Chunk0 : _fills[(int)work].Chunk1;

    /// <summary>Micro-batch numbers: white on the dark shade, near black on the light one.</summary>
    public static string Number(int chunk) => chunk == 0 ? "#fff" : "#111";

    /// <summary>Words of the legend.</summary>
    public static string Label(PipelineWork work) => work switch
    {
        PipelineWork.Forward => "F forward",
        PipelineWork.Backward => "B backward",
        PipelineWork.BackwardInput => "I input gradient",
        _ => "W weight gradient",
    };
}
