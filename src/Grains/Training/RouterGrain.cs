using Krewe.Model.Balancing;
using Orleans.Concurrency;

namespace Krewe.Grains.Training;

/// <inheritdoc cref="IRouterGrain"/>
[GrainType("krewe.router"), Reentrant, KeepAlive]
public sealed class RouterGrain(TimeProvider clock) : Grain, IRouterGrain
{
    private const int HistoryLength = 512;
    private const int AuditLength = 256;

    private readonly Queue<double> _violations = new();
    private readonly Queue<string> _audit = new();
    private float[] _bias = [];
    private bool _frozen;
    private long _step = -1;
    private long _attempt;

    /// <inheritdoc/>
    public Task ResetAsync(float[] bias, long attempt)
    {
        if (attempt > 0)
        {
            // Not a new model of this name.
            Check(attempt);
        }

        _attempt = attempt;
        _bias = [.. bias];
        _frozen = false;
        _step = -1;
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<float[]> UpdateAsync(long step, long[] load, float speed, long attempt)
    {
        Check(attempt);
        if (_bias.Length == 0)
        {
            return Task.FromResult(Array.Empty<float>());
        }

        if (load.Length != _bias.Length)
        {
            throw new ArgumentException($"{load.Length} loads for a router of {_bias.Length} experts");
        }

        if (step > _step)
        {
            _step = step;
            Keep(_violations, ExpertLoad.MaxViolation(load), HistoryLength);
            if (!_frozen)
            {
                ExpertBias.Update(_bias, load, speed);
            }
        }

        return Task.FromResult(_bias.ToArray());
    }

    /// <inheritdoc/>
    public Task EditAsync(int expert, float bias, string author, string reason)
    {
        if ((uint)expert >= (uint)_bias.Length || !float.IsFinite(bias))
        {
            throw new ArgumentException($"expert {expert} of {_bias.Length}, bias {bias}: give an index below and a finite value");
        }

        Audit($"{author}: expert {expert} from {_bias[expert]:G9} to {bias:G9}: {reason}");
        _bias[expert] = bias;
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task FreezeAsync(bool frozen, string author)
    {
        Audit($"{author}: {(frozen ? "frozen" : "released")}");
        _frozen = frozen;
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<RouterStatus> StatusAsync() => Task.FromResult(new RouterStatus
    {
        Bias = [.. _bias],
        Frozen = _frozen,
        Step = _step,
        MaxViolations = [.. _violations],
        Audit = [.. _audit],
    });

    /// <summary>A driver that was taken for dead and acts on must not move the vector.</summary>
    private void Check(long attempt)
    {
        if (attempt < _attempt)
        {
            throw new StaleAttemptException(
                $"router '{this.GetPrimaryKeyString()}': a call of attempt {attempt} came during attempt {_attempt}");
        }
    }

    private void Audit(string entry) => Keep(_audit, $"{clock.GetUtcNow():u} {entry}", AuditLength);

    private static void Keep<T>(Queue<T> queue, T item, int most)
    {
        queue.Enqueue(item);
        if (queue.Count > most)
        {
            queue.Dequeue();
        }
    }
}
