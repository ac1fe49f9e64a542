namespace Krewe.Grains.Devices;

/// <summary>A tensor on its way, and the parcel that the receiver needs.</summary>
/// <param name="parcel">For the grain call.</param>
/// <param name="sent">Completes when the tensor's memory is no longer read.</param>
/// <param name="cancel">Ends the sending; null where nothing is under way.</param>
public sealed class PostedTensor(TensorParcel parcel, Task sent, CancellationTokenSource? cancel)
{
    /// <summary>For the grain call.</summary>
    public TensorParcel Parcel { get; } = parcel;

    /// <summary>Completes when the tensor's memory is no longer read.</summary>
    public Task Sent { get; } = sent;

    /// <summary>
    /// Waits for the call that carries the parcel and for the sending. Where one fails the other is given up, and the
    /// tensor's memory is free when this ends, in whatever way.
    /// </summary>
    public async Task<T> CompleteAsync<T>(Task<T> call)
    {
        try
        {
            if (!Sent.IsCompletedSuccessfully)
            {
                await await Task.WhenAny(call, Sent);
            }

            T result = await call;
            await Sent;
            return result;
        }
        catch
        {
            if (cancel is not null)
            {
                await cancel.CancelAsync();
            }

            Parcel.Withdraw();
            await Sent.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
            throw;
        }
        finally
        {
            cancel?.Dispose();
        }
    }

    /// <summary>As the other overload, for a call without a result.</summary>
    public async Task CompleteAsync(Task call) => await CompleteAsync(WithResultAsync(call));

    /// <summary>Waits until it is sent: for a reply, which cannot be made before.</summary>
    public async Task<TensorParcel> ReplyAsync()
    {
        using (cancel)
        {
            await Sent;
        }

        return Parcel;
    }

    private static async Task<bool> WithResultAsync(Task call)
    {
        await call;
        return true;
    }
}
