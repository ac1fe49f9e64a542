using System.Reflection;
using Krewe.Silo.Hosting;
using Orleans.Runtime;
using Orleans.Serialization.Invocation;
using Xunit;

namespace Krewe.Silo.Tests.Hosting;

/// <summary>What a client's caller sees of a call that fails with a silo.</summary>
public sealed class SiloLossTests
{
    [Fact]
    public async Task A_call_that_nobody_cancelled_is_one_to_ask_again()
    {
        SiloUnavailableException fault = await Assert.ThrowsAsync<SiloUnavailableException>(
            () => new SiloLoss().Invoke(CallContext.Of(Task.FromCanceled(new(true)))));
        Assert.Equal(
            "the call to IDevice.Status was given up on its way, by a silo that ends or that has lost another: " +
            "whether it was carried out is unknown",
            fault.Message);
    }

    [Fact]
    public async Task A_call_that_its_caller_cancelled_stays_cancelled()
    {
        var cancelled = new CancellationToken(true);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => new SiloLoss().Invoke(CallContext.Of(Task.FromCanceled(cancelled), "model", cancelled)));
    }

    [Fact]
    public async Task A_call_in_flight_fails_when_a_silo_is_lost()
    {
        var loss = new SiloLoss();
        var never = new TaskCompletionSource();
        Task call = loss.Invoke(CallContext.Of(never.Task));
        Assert.False(call.IsCompleted);
        loss.Report("b");
        SiloUnavailableException fault = await Assert.ThrowsAsync<SiloUnavailableException>(() => call);
        Assert.Contains("was in flight when b was lost", fault.Message, StringComparison.Ordinal);
    }

    /// <summary>Context of a call, and the call itself, that ends as a test wants.</summary>
    public class CallContext : DispatchProxy
    {
        private object?[] _arguments = [];
        private Task _call = Task.CompletedTask;
        private IInvokable? _request;

        /// <summary>A call to IDevice.Status.</summary>
        public static IOutgoingGrainCallContext Of(Task call, params object?[] arguments)
        {
            IInvokable request = Create<IInvokable, CallContext>();
            ((CallContext)request)._arguments = arguments;
            IOutgoingGrainCallContext context = Create<IOutgoingGrainCallContext, CallContext>();
            (((CallContext)context)._call, ((CallContext)context)._request) = (call, request);
            return context;
        }

        /// <inheritdoc/>
        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => targetMethod!.Name switch
        {
            nameof(IGrainCallContext.Invoke) => _call,
            "get_" + nameof(IGrainCallContext.Request) => _request,
            "get_" + nameof(IGrainCallContext.InterfaceName) => "IDevice",
            "get_" + nameof(IGrainCallContext.MethodName) => "Status",
            nameof(IInvokable.GetArgumentCount) => _arguments.Length,
            nameof(IInvokable.GetArgument) => _arguments[(int)args![0]!],
            string name => throw new NotSupportedException(name),
        };
    }
}
