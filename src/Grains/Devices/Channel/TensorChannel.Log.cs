using Microsoft.Extensions.Logging;

namespace Krewe.Grains.Devices.Channel;

/// <content>Logging.</content>
public sealed partial class TensorChannel
{
    [LoggerMessage(Level = LogLevel.Information, Message = "Tensor channel to {Peer} open over {Endpoint}, window {Window} bytes")]
    private static partial void LogConnected(ILogger logger, ChannelAddress peer, string endpoint, long window);

    [LoggerMessage(Level = LogLevel.Warning, Message = "No tensor channel to {Peer} at {Endpoint}: {Reason}")]
    private static partial void LogNotConnected(ILogger logger, ChannelAddress peer, string endpoint, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Tensor channel with {Peer} ended: {Reason}")]
    private static partial void LogLost(ILogger logger, object peer, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Tensor channel refused to {Endpoint}: {Reason}")]
    private static partial void LogRefused(ILogger logger, string endpoint, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Tensor channel without Unix-domain socket: {Reason}")]
    private static partial void LogNoUnixSocket(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Tensor channel could not accept a connection: {Reason}")]
    private static partial void LogNotAccepted(ILogger logger, string reason);
}
