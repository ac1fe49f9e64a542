using System.Reflection;
using Krewe.Grains.Interfaces.Devices;
using Krewe.Grains.Placement;
using Microsoft.Extensions.Options;
using Orleans;
using Orleans.Configuration;
using Orleans.Runtime;
using Xunit;

namespace Krewe.Grains.Tests.Placement;

/// <summary>What a silo knows of the places of silos in other processes, which it has asked or could not ask.</summary>
public class LivePlacesTests
{
    private readonly Dictionary<string, SiloAddress> _active = [];

    /// <summary>What a silo answers.</summary>
    private readonly Dictionary<string, Func<Task<PlaceStatus[]>>> _answers = [];

    private readonly LivePlaces _places;

    public LivePlacesTests() => _places = new(
        Fake.Of<ISiloStatusOracle>(OracleAnswers), Fake.Of<IGrainFactory>(FactoryAnswers),
        Options.Create(new ClusterOptions { ClusterId = $"{Guid.NewGuid():N}" }));

    [Fact]
    public async Task A_silo_that_has_not_told_its_places_is_unknown_and_not_without_devices()
    {
        Start("a", 1, Places("a", "a:1"));
        Start("b", 2, () => Task.FromException<PlaceStatus[]>(new SiloUnavailableException("b hangs")));

        await _places.RefreshAsync();
        Assert.Equal(["a", "a:1"], _places.Names());
        Assert.Equal(["b"], _places.Untold());
        Assert.Empty(_places.Retired());
        Assert.NotNull(_places.Find("b"));

        // It is asked again until it has answered, without anybody's asking for all.
        _answers["b"] = Places("b", "b:1 lost");
        await _places.RefreshAsync();
        Assert.Equal(["a", "a:1", "b"], _places.Names());
        Assert.Empty(_places.Untold());
        Assert.Equal(["b:1"], _places.Retired());
    }

    [Fact]
    public async Task A_silo_that_has_told_and_hangs_then_is_known_until_it_is_declared_dead()
    {
        Start("a", 1, Places("a"));
        Start("b", 2, Places("b"));
        await _places.RefreshAsync();

        _answers["b"] = () => Task.FromException<PlaceStatus[]>(new TimeoutException());
        await _places.RefreshAsync(all: true);
        Assert.Equal(["a", "b"], _places.Names());
        Assert.Empty(_places.Untold());

        _active.Remove("b");
        Assert.Equal(["a"], _places.Names());
        Assert.Empty(_places.Untold());
        Assert.Null(_places.Find("b"));
    }

    /// <summary>Its old start has told; the new one has not.</summary>
    [Fact]
    public async Task A_silo_that_was_started_again_is_unknown_until_it_tells_anew()
    {
        Start("a", 1, Places("a"));
        Start("b", 2, Places("b", "b:1"));
        await _places.RefreshAsync();

        Start("b", 3, () => Task.FromException<PlaceStatus[]>(new SiloUnavailableException("b starts")));
        await _places.RefreshAsync();
        Assert.Equal(["a"], _places.Names());
        Assert.Equal(["b"], _places.Untold());
    }

    private static Func<Task<PlaceStatus[]>> Places(params string[] names)
    {
        PlaceStatus[] places =
        [
            .. names.Select(name => new PlaceStatus(
                name.Split(' ')[0], "cpu:0", name.EndsWith(" lost", StringComparison.Ordinal))),
        ];
        return () => Task.FromResult(places);
    }

    private void Start(string silo, int generation, Func<Task<PlaceStatus[]>> answer) =>
        (_active[silo], _answers[silo]) =
            (SiloAddress.New(System.Net.IPAddress.Loopback, 1000 + silo[0], generation), answer);

    private object? OracleAnswers(MethodInfo method, object?[] args)
    {
        switch (method.Name)
        {
            case nameof(ISiloStatusOracle.GetApproximateSiloStatuses):
                return _active.Values.ToDictionary(address => address, _ => SiloStatus.Active);
            case nameof(ISiloStatusOracle.TryGetSiloName):
                args[1] = _active.FirstOrDefault(silo => silo.Value.Equals(args[0])).Key;
                return args[1] is not null;
            default:
                throw new NotSupportedException(method.Name);
        }
    }

    private object? FactoryAnswers(MethodInfo method, object?[] args) => Fake.Of<IDeviceGrain>(
        (called, _) => called.Name == nameof(IDeviceGrain.PlacesAsync)
            ? _answers[(string)args[0]!]()
            : throw new NotSupportedException(called.Name));

    /// <summary>An interface whose calls a function answers.</summary>
    public class Fake : DispatchProxy
    {
        private Func<MethodInfo, object?[], object?> _answer = (_, _) => null;

        /// <summary>Makes one.</summary>
        public static T Of<T>(Func<MethodInfo, object?[], object?> answer) where T : class
        {
            T made = Create<T, Fake>();
            ((Fake)(object)made)._answer = answer;
            return made;
        }

        /// <inheritdoc/>
        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) =>
            _answer(targetMethod!, args ?? []);
    }
}
