-- Tables of Orleans' cluster membership, and the queries that its ADO.NET provider looks up by key. Run once, under a
-- lock; it may be run again without harm. A write of membership succeeds only against the version that its writer has
-- read: the version's row is updated first, so that concurrent writers wait for each other there and the loser matches
-- no row.

CREATE TABLE IF NOT EXISTS orleansquery (
    querykey varchar(64) PRIMARY KEY,
    querytext varchar(8000) NOT NULL
);

CREATE TABLE IF NOT EXISTS krewe_membership_version (
    cluster varchar(150) PRIMARY KEY,
    version integer NOT NULL DEFAULT 0,
    changed timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS krewe_membership (
    cluster varchar(150) NOT NULL REFERENCES krewe_membership_version (cluster),
    address varchar(45) NOT NULL,
    port integer NOT NULL,
    generation integer NOT NULL,
    siloname varchar(150) NOT NULL,
    hostname varchar(150) NOT NULL,
    status integer NOT NULL,
    proxyport integer NOT NULL,
    suspecttimes text,
    starttime timestamptz(3) NOT NULL,
    iamalivetime timestamptz(3) NOT NULL,
    PRIMARY KEY (cluster, address, port, generation)
);

INSERT INTO orleansquery (querykey, querytext) VALUES
-- The version's row of a cluster; true where it was not there.
('InsertMembershipVersionKey', '
    WITH added AS (
        INSERT INTO krewe_membership_version (cluster) VALUES (@DeploymentId) ON CONFLICT DO NOTHING RETURNING 1)
    SELECT EXISTS (SELECT 1 FROM added)'),

-- A silo comes; true where it was written.
('InsertMembershipKey', '
    WITH bumped AS (
        UPDATE krewe_membership_version SET version = version + 1, changed = now()
        WHERE cluster = @DeploymentId AND version = @Version AND NOT EXISTS (
            SELECT 1 FROM krewe_membership
            WHERE cluster = @DeploymentId AND address = @Address AND port = @Port AND generation = @Generation)
        RETURNING cluster),
    added AS (
        INSERT INTO krewe_membership (
            cluster, address, port, generation, siloname, hostname, status, proxyport, starttime, iamalivetime)
        SELECT cluster, @Address, @Port, @Generation, @SiloName, @HostName, @Status, @ProxyPort, @StartTime, @IAmAliveTime
        FROM bumped RETURNING 1)
    SELECT EXISTS (SELECT 1 FROM added)'),

-- A silo''s state or the votes against it change; true where it was written.
('UpdateMembershipKey', '
    WITH bumped AS (
        UPDATE krewe_membership_version SET version = version + 1, changed = now()
        WHERE cluster = @DeploymentId AND version = @Version AND EXISTS (
            SELECT 1 FROM krewe_membership
            WHERE cluster = @DeploymentId AND address = @Address AND port = @Port AND generation = @Generation)
        RETURNING cluster),
    altered AS (
        UPDATE krewe_membership SET status = @Status, suspecttimes = @SuspectTimes, iamalivetime = @IAmAliveTime
        WHERE cluster IN (SELECT cluster FROM bumped)
            AND address = @Address AND port = @Port AND generation = @Generation
        RETURNING 1)
    SELECT EXISTS (SELECT 1 FROM altered)'),

-- A heartbeat, outside the version: it competes with nobody.
('UpdateIAmAlivetimeKey', '
    UPDATE krewe_membership SET iamalivetime = @IAmAliveTime
    WHERE cluster = @DeploymentId AND address = @Address AND port = @Port AND generation = @Generation'),

-- The version comes back even where no silo does.
('MembershipReadRowKey', '
    SELECT m.address, m.port, m.generation, m.siloname, m.hostname, m.status, m.proxyport, m.suspecttimes,
        m.starttime, m.iamalivetime, v.version
    FROM krewe_membership_version v LEFT JOIN krewe_membership m
        ON m.cluster = v.cluster AND m.address = @Address AND m.port = @Port AND m.generation = @Generation
    WHERE v.cluster = @DeploymentId'),

('MembershipReadAllKey', '
    SELECT m.address, m.port, m.generation, m.siloname, m.hostname, m.status, m.proxyport, m.suspecttimes,
        m.starttime, m.iamalivetime, v.version
    FROM krewe_membership_version v LEFT JOIN krewe_membership m ON m.cluster = v.cluster
    WHERE v.cluster = @DeploymentId'),

('GatewaysQueryKey', '
    SELECT address, proxyport, generation FROM krewe_membership
    WHERE cluster = @DeploymentId AND status = @Status AND proxyport > 0'),

('DeleteMembershipTableEntriesKey', '
    DELETE FROM krewe_membership WHERE cluster = @DeploymentId;
    DELETE FROM krewe_membership_version WHERE cluster = @DeploymentId'),

-- Silos that died (status 6) long ago.
('CleanupDefunctSiloEntriesKey', '
    DELETE FROM krewe_membership WHERE cluster = @DeploymentId AND status = 6 AND iamalivetime < @IAmAliveTime'),

-- One dead silo, unless its row has changed since it was read.
('CleanupDefunctSiloEntryKey', '
    DELETE FROM krewe_membership
    WHERE cluster = @DeploymentId AND address = @Address AND port = @Port AND generation = @Generation
        AND status = 6 AND starttime = @StartTime AND iamalivetime = @IAmAliveTime
        AND suspecttimes IS NOT DISTINCT FROM @SuspectTimes')
ON CONFLICT (querykey) DO NOTHING;
