using Npgsql;

namespace Krewe.Silo.Hosting.Membership;

/// <summary>
/// The tables and stored queries that Orleans' ADO.NET provider expects, created where they are missing. Silos that
/// start together take turns by an advisory lock.
/// </summary>
internal static class PostgresSchema
{
    private const string Resource = "Krewe.Silo.Hosting.Membership.postgres-membership.sql";

    /// <summary>Any number that other users of the database are unlikely to lock.</summary>
    private const long LockKey = 0x6b72_6577_6501;

    /// <summary>The last query of the script: where it is there, so are the others.</summary>
    private const string LastQuery = "CleanupDefunctSiloEntryKey";

    /// <summary>Creates what is missing.</summary>
    public static async Task EnsureAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        if (await ExistsAsync(connection, cancellation))
        {
            return;
        }

        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellation);
        await ExecuteAsync(connection, $"SELECT pg_advisory_xact_lock({LockKey})", cancellation);
        if (!await ExistsAsync(connection, cancellation))
        {
            await ExecuteAsync(connection, Script(), cancellation);
        }

        await transaction.CommitAsync(cancellation);
    }

    private static async Task<bool> ExistsAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using var table = new NpgsqlCommand("SELECT to_regclass('orleansquery') IS NOT NULL", connection);
        if (await table.ExecuteScalarAsync(cancellation) is not true)
        {
            return false;
        }

        await using var query = new NpgsqlCommand(
            "SELECT EXISTS (SELECT 1 FROM orleansquery WHERE querykey = $1)", connection)
        {
            Parameters = { new() { Value = LastQuery } },
        };
        return await query.ExecuteScalarAsync(cancellation) is true;
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql, CancellationToken cancellation)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private static string Script()
    {
        using Stream stream = typeof(PostgresSchema).Assembly.GetManifestResourceStream(Resource)!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
