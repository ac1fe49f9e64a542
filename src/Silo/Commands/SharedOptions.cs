using System.CommandLine;
using System.CommandLine.Parsing;

namespace Krewe.Silo.Commands;

/// <summary>Arguments and options that several commands have; each call makes a new one.</summary>
internal static class SharedOptions
{
    /// <summary>The checkpoint folder.</summary>
    public static Argument<string> Model() => new("MODEL")
    {
        Description = "Checkpoint folder: config.json and model.safetensors (or shards with their index)",
    };

    /// <summary>Result as JSON.</summary>
    public static Option<bool> Json(string what) => new("--json") { Description = what };

    /// <summary>Silos of the embedded cluster; 0 computes without one.</summary>
    public static Option<int> Silos() => AtLeast(0, new("--silos")
    {
        Description = "Run through the grains of an embedded cluster of N silos; 0 computes without a cluster",
        HelpName = "N",
        DefaultValueFactory = _ => 0,
    });

    /// <summary>Pipeline stages of the embedded cluster.</summary>
    public static Option<int> Stages(int usual) => AtLeast(1, new("--stages")
    {
        Description = "Pipeline stages that the layers are cut into",
        HelpName = "N",
        DefaultValueFactory = _ => usual,
    });

    /// <summary>Computing threads of the process.</summary>
    public static Option<int> CpuThreads() => AtLeast(1, new("--cpu-threads")
    {
        Description = "Computing threads over all silos of this process, as many as cores by default",
        HelpName = "N",
        DefaultValueFactory = _ => Environment.ProcessorCount,
    });

    /// <summary>Refuses values below <paramref name="least"/> with a line that says so.</summary>
    public static Option<T> AtLeast<T>(T least, Option<T> option) where T : struct, IComparable<T>
    {
        option.Validators.Add(result =>
        {
            if (Value<T>(result) is { } value && value.CompareTo(least) < 0)
            {
                result.AddError($"{option.Name} must be at least {least}, not {value}");
            }
        });
        return option;
    }

    /// <summary>The value of an option, or null where it is none of its type, which is reported elsewhere.</summary>
    public static T? Value<T>(OptionResult result) where T : struct
    {
        try
        {
            return result.GetValueOrDefault<T>();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }
}
