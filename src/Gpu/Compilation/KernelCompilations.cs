namespace Krewe.Gpu.Compilation;

/// <summary>
/// Machine code of kernels, each variant made once: what is expected and lies in no cache by threads of its own, side by side,
/// so that it is ready when it is asked for; anything else by who asks.
/// </summary>
/// <param name="make">Machine code of a variant, from the cache or compiled; called from several threads.</param>
/// <param name="isKept">Whether a variant's code lies in the cache.</param>
/// <param name="threads">Most threads beside; none for 0.</param>
internal sealed class KernelCompilations(
    Func<KernelVariant, byte[]> make, Func<KernelVariant, bool> isKept, int threads) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, TaskCompletionSource<byte[]>> _begun = new(StringComparer.Ordinal);
    private readonly Queue<KernelVariant> _expected = [];
    private readonly List<Thread> _threads = [];
    private bool _disposed;

    /// <summary>Names variants that are likely to be asked for: those that are not kept are begun.</summary>
    public void Expect(IEnumerable<KernelVariant> variants)
    {
        KernelVariant[] missing = [.. variants.Where(variant => !isKept(variant))];
        lock (_lock)
        {
            Array.ForEach(missing, _expected.Enqueue);
            while (!_disposed && _threads.Count < Math.Min(threads, _expected.Count))
            {
                var thread = new Thread(CompileExpected) { IsBackground = true, Name = "compiles kernels" };
                _threads.Add(thread);
                thread.Start();
            }
        }
    }

    /// <summary>Machine code of a variant; waits where it is being made.</summary>
    public byte[] Get(KernelVariant variant)
    {
        if (TryBegin(variant, out TaskCompletionSource<byte[]> begun))
        {
            Make(variant, begun);
        }

        return begun.Task.GetAwaiter().GetResult();
    }

    /// <summary>Waits for what is being compiled and compiles no more.</summary>
    public void Dispose()
    {
        Thread[] threads;
        lock (_lock)
        {
            _disposed = true;
            _expected.Clear();
            threads = [.. _threads];
        }

        Array.ForEach(threads, thread => thread.Join());
    }

    /// <summary>True where the caller is to make the variant.</summary>
    private bool TryBegin(KernelVariant variant, out TaskCompletionSource<byte[]> begun)
    {
        lock (_lock)
        {
            if (_begun.TryGetValue(variant.Name, out begun!))
            {
                return false;
            }

            begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
            _begun.Add(variant.Name, begun);
            return true;
        }
    }

    private void Make(KernelVariant variant, TaskCompletionSource<byte[]> begun)
    {
#pragma warning disable CA1031 // The exception belongs to whoever asks for the variant.
        try
        {
            begun.SetResult(make(variant));
        }
        catch (Exception exception)
        {
            begun.SetException(exception);
        }
#pragma warning restore CA1031
    }

    private void CompileExpected()
    {
        while (true)
        {
            KernelVariant variant;
            lock (_lock)
            {
                if (!_expected.TryDequeue(out variant))
                {
                    _ = _threads.Remove(Thread.CurrentThread);
                    return;
                }
            }

            if (TryBegin(variant, out TaskCompletionSource<byte[]> begun))
            {
                Make(variant, begun);
            }
        }
    }
}

/// <summary>A source of kernels with the options that it is compiled with.</summary>
/// <param name="File">Path below <c>src/Gpu/Kernels</c>.</param>
/// <param name="Options">Options of the compiler that make a variant of the file.</param>
internal readonly record struct KernelVariant(string File, IReadOnlyList<string> Options)
{
    /// <summary>File and options.</summary>
    public string Name => string.Join(' ', [File, .. Options]);
}
