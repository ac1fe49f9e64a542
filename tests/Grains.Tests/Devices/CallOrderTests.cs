using Krewe.Grains.Devices;
using Krewe.Grains.Interfaces.Pipeline;
using Xunit;

namespace Krewe.Grains.Tests.Devices;

/// <summary>Calls of a step that arrive in another order than they were made in.</summary>
public class CallOrderTests
{
    private readonly CallOrder _order = new();
    private readonly List<int> _begun = [];

    [Fact]
    public async Task Calls_begin_in_the_order_in_which_they_were_made()
    {
        Task[] calls = [.. new[] { 2, 0, 3, 1, 4 }.Select(turn => CallAsync(turn))];
        await Task.WhenAll(calls).WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);

        Assert.Equal([0, 1, 2, 3, 4], _begun);
    }

    [Fact]
    public async Task A_new_step_or_attempt_begins_from_its_first_call()
    {
        await CallAsync(0);
        await CallAsync(1);
        await CallAsync(0, step: 1);
        await CallAsync(0, step: 1, attempt: 2);

        Assert.Equal([0, 1, 0, 0], _begun);
    }

    [Fact]
    public async Task The_wait_for_a_call_that_never_comes_ends_with_the_attempt()
    {
        using var abandoned = new CancellationTokenSource();
        await CallAsync(0);
        Task early = CallAsync(2, abandoned: abandoned.Token);

        Assert.False(early.IsCompleted);
        await abandoned.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => early);
    }

    private async Task CallAsync(int turn, long step = 0, long attempt = 1, CancellationToken abandoned = default)
    {
        await _order.EnterAsync(new(0, step, attempt, turn, Rank: 0), abandoned);
        lock (_begun)
        {
            _begun.Add(turn);
        }
    }
}
