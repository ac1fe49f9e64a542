using System.Globalization;
using Krewe.Model.Precision;
using Krewe.Silo.Hosting;

namespace Krewe.Cluster;

/// <summary>Options of a benchmark: a path and <c>--name value</c> pairs.</summary>
internal sealed record BenchmarkOptions
{
    public string? Path { get; private init; }
    public string? Preset { get; private init; }
    public int Threads { get; private init; } = Environment.ProcessorCount;
    public int Silos { get; private init; } = 2;

    /// <summary>Devices of the silos, as <c>krewe train</c> takes them.</summary>
    public DeviceName[] Devices { get; private init; } = [DeviceName.Cpu];

    /// <summary>Recipe of the products; moments have the storage that goes with it.</summary>
    public PrecisionRecipe Precision { get; private init; } = PrecisionRecipe.Fp32;
    public int Rounds { get; private init; } = 7;
    public int Batch { get; private init; } = 8;
    public int Length { get; private init; } = 256;
    public int MicroBatches { get; private init; } = 1;

    /// <summary>How often models that do not fit a device together are loaded, each.</summary>
    public int Turns { get; private init; } = 2;
    public int Minutes { get; private init; } = 20;
    public int EverySeconds { get; private init; } = 60;

    /// <summary>Set time of the experts' forward, in milliseconds: longer on a machine that others use too.</summary>
    public int ExpertMilliseconds { get; private init; } = 20;

    public static BenchmarkOptions Parse(IEnumerable<string> args)
    {
        var options = new BenchmarkOptions();
        using IEnumerator<string> rest = args.GetEnumerator();
        while (rest.MoveNext())
        {
            string name = rest.Current;
            if (!name.StartsWith("--", StringComparison.Ordinal))
            {
                options = options with { Path = name };
                continue;
            }

            string value = rest.MoveNext() ? rest.Current : throw new ArgumentException($"{name} needs a value");
            options = name switch
            {
                "--preset" => options with { Preset = value },
                "--threads" => options with { Threads = Number(value) },
                "--device" => options with
                {
                    Devices = DeviceName.TryParse(value, out DeviceName[] devices)
                        ? devices
                        : throw new ArgumentException($"{value} is no device: cpu or cuda:N"),
                },
                "--precision" => options with { Precision = PrecisionRecipe.Get(value) },
                "--silos" => options with { Silos = Number(value) },
                "--rounds" => options with { Rounds = Number(value) },
                "--batch" => options with { Batch = Number(value) },
                "--length" => options with { Length = Number(value) },
                "--micro-batches" => options with { MicroBatches = Number(value) },
                "--turns" => options with { Turns = Number(value) },
                "--minutes" => options with { Minutes = Number(value) },
                "--every" => options with { EverySeconds = Number(value) },
                "--experts" => options with { ExpertMilliseconds = Number(value) },
                _ => throw new ArgumentException($"unknown option {name}"),
            };
        }

        return options;
    }

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}
