using System.CommandLine;
using System.CommandLine.Parsing;
using Krewe.Model;
using Krewe.Model.Precision;
using Krewe.Silo.Hosting;

namespace Krewe.Silo.Commands;

/// <summary>Arguments and options that several commands have; each call makes a new one.</summary>
internal static class SharedOptions
{
    /// <summary>Silos that one process can reasonably hold.</summary>
    public const int MostSilos = 32;

    /// <summary>The checkpoint folder.</summary>
    public static Argument<string> Model() => new("MODEL")
    {
        Description = "Checkpoint folder: config.json and model.safetensors (or shards with their index)",
    };

    /// <summary>Result as JSON.</summary>
    public static Option<bool> Json(string what) => new("--json") { Description = what };

    /// <summary>Silos of the embedded cluster; 0 computes without one.</summary>
    public static Option<int> Silos() => Within(0, MostSilos, new("--silos")
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

    /// <summary>Precision recipe of the products.</summary>
    public static Option<string> Precision()
    {
        var option = new Option<string>("--precision")
        {
            Description =
                "Arithmetic of the products: fp32; bf16; fp8, DeepSeek-V3's recipe; or mxfp8, microscaling. On a CPU all but " +
                "fp32 are emulated, for study. NAME:PART=NAME,... takes parts of other recipes, such as fp8:experts=bf16",
            HelpName = string.Join('|', PrecisionRecipe.Names),
            DefaultValueFactory = _ => PrecisionRecipe.Fp32.Name,
            CustomParser = result =>
            {
                try
                {
                    return PrecisionRecipe.Get(result.Tokens[0].Value).Name;
                }
                catch (KreweException exception)
                {
                    result.AddError(exception.Message);
                    return PrecisionRecipe.Fp32.Name;
                }
            },
        };
        return option;
    }

    /// <summary>Devices of this process, as many as named.</summary>
    public static Option<DeviceName[]> Devices() => new("--device")
    {
        Description = "What computes: cpu, or cuda:N for a GPU; several, with commas or by repetition: they are shared " +
            "out to the silos, each a place of the plan",
        HelpName = "cpu|cuda:N",
        DefaultValueFactory = _ => [DeviceName.Cpu],
        CustomParser = result =>
        {
            var all = new List<DeviceName>();
            foreach (Token token in result.Tokens)
            {
                if (!DeviceName.TryParse(token.Value, out DeviceName[] devices))
                {
                    result.AddError($"--device is cpu or cuda:N, such as cuda:0, not '{token.Value}'");
                    return [];
                }

                all.AddRange(devices);
            }

            return [.. all];
        },
    };

    /// <summary>Computing threads of the process.</summary>
    public static Option<int> CpuThreads() => AtLeast(1, new("--cpu-threads")
    {
        Description = "Computing threads over all silos of this process, as many as cores by default",
        HelpName = "N",
        DefaultValueFactory = _ => Environment.ProcessorCount,
    });

    /// <summary>Refuses values outside a range with a line that says so.</summary>
    public static Option<T> Within<T>(T least, T most, Option<T> option) where T : struct, IComparable<T>
    {
        option.Validators.Add(result =>
        {
            if (Value<T>(result) is { } value && value.CompareTo(most) > 0)
            {
                result.AddError($"{option.Name} must be at most {most}, not {value}");
            }
        });
        return AtLeast(least, option);
    }

    /// <summary>Refuses values below <paramref name="least"/> with a line that says so.</summary>
    public static Option<T> AtLeast<T>(T least, Option<T> option) where T : struct, IComparable<T>
    {
        RefuseThousands(option);
        option.Validators.Add(result =>
        {
            if (Value<T>(result) is { } value && value.CompareTo(least) < 0)
            {
                result.AddError($"{option.Name} must be at least {least}, not {value}");
            }
        });
        return option;
    }

    /// <summary>As <see cref="AtLeast"/>, for an option without a default value.</summary>
    public static Option<T?> AtLeastOrNone<T>(T least, Option<T?> option) where T : struct, IComparable<T>
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

    /// <summary>
    /// Refuses real numbers with a comma: the default reading takes it for a thousands sign and makes 4 of 0,004.
    /// </summary>
    private static void RefuseThousands(Option option)
    {
        if (option.ValueType == typeof(double) || option.ValueType == typeof(float))
        {
            option.Validators.Add(result =>
            {
                if (result.Tokens.Any(token => token.Value.Contains(',', StringComparison.Ordinal)))
                {
                    result.AddError($"{option.Name} takes a number with a decimal point, not '{result.Tokens[0].Value}'");
                }
            });
        }
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
