-- Every statement of the store, by name.

-- name: board
SELECT sequence, newest_failure, artifacts, open, timed, done, failed, cancelled, horizon, quiet, steps FROM counts
WHERE name = ''

-- name: save_board
UPDATE counts SET sequence = ?, newest_failure = ?, artifacts = ?, open = ?, timed = ?, done = ?, failed = ?,
    cancelled = ?, horizon = ?, quiet = ?, steps = ? WHERE name = ''

-- name: run
SELECT name, artifacts, open, timed, done, failed, cancelled, ordinals, withdrawn, first, quiet FROM counts
WHERE name = ?

-- name: save_run
INSERT INTO counts (name, artifacts, open, timed, done, failed, cancelled, ordinals, withdrawn, first, quiet)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET artifacts = excluded.artifacts, open = excluded.open, timed = excluded.timed,
    done = excluded.done, failed = excluded.failed, cancelled = excluded.cancelled, ordinals = excluded.ordinals,
    withdrawn = excluded.withdrawn, quiet = excluded.quiet

-- name: any_withdrawn
SELECT EXISTS (SELECT 1 FROM counts WHERE withdrawn IS NOT NULL)

-- name: run_names
SELECT name FROM counts WHERE name <> '' AND artifacts > 0
ORDER BY (SELECT min(sequence) FROM artifact WHERE run = name)

-- name: add_artifact
INSERT OR IGNORE INTO artifact (sequence, id, run, type, version, payload, created, produced_by, partition_key, tags, visibility,
    parents, activation, slot, trace_context, depth)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: add_plain_artifact
INSERT OR IGNORE INTO artifact (sequence, id, run, type, version, payload, created, produced_by, depth)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: add_plain_output
INSERT OR IGNORE INTO artifact (sequence, id, run, type, version, payload, created, produced_by, depth,
    parents, activation, slot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: add_parent
INSERT OR IGNORE INTO parent (id, child) VALUES (?, ?)

-- name: artifact_sequence
SELECT sequence FROM artifact WHERE id = ?

-- name: artifacts_by_id
SELECT * FROM artifact WHERE id IN (SELECT value FROM json_each(?))

-- name: artifact_at
SELECT * FROM artifact WHERE sequence = ?

-- name: artifacts_by_sequence
SELECT * FROM artifact WHERE sequence IN (SELECT value FROM json_each(?))

-- name: artifact_in_slot
SELECT * FROM artifact WHERE activation = ? AND slot = ?

-- name: is_rare
SELECT count(*) < :few FROM
    (SELECT 1 FROM artifact WHERE type IN (SELECT value FROM json_each(:types)) LIMIT :few)

-- name: follow
SELECT * FROM artifact WHERE sequence > ? AND payload IS NOT NULL ORDER BY sequence LIMIT ?

-- name: children
SELECT * FROM artifact WHERE sequence IN
    (SELECT child FROM parent WHERE id IN (SELECT value FROM json_each(:ids)))
    OR activation IN (SELECT activation.id FROM activation JOIN input ON input.activation = activation.number
        JOIN artifact AS source ON source.sequence = input.artifact
        WHERE source.id IN (SELECT value FROM json_each(:ids)))
ORDER BY sequence

-- name: kinds
WITH RECURSIVE kind (name) AS (
    SELECT min(type) FROM artifact
    UNION ALL
    SELECT (SELECT min(type) FROM artifact WHERE type > kind.name) FROM kind WHERE kind.name IS NOT NULL
)
SELECT name FROM kind WHERE name IS NOT NULL

-- name: last_activation
SELECT coalesce(max(number), 0) FROM activation

-- name: add_activation
INSERT INTO activation (number, id, agent, subscription, run, runs, priority, cause, inputs, ordinal, depth, state,
    epoch, attempt, deferrals, crashes, fire_time, iteration, trace_context, worker, made)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)

-- name: add_plain_activation
INSERT INTO activation (number, id, agent, subscription, run, priority, inputs, ordinal, depth, worker, made,
    cause, state, epoch, attempt, deferrals, crashes, iteration)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'artifact', 'running', 1, 1, 0, 0, 0)

-- name: add_input
INSERT OR IGNORE INTO input (artifact, activation) VALUES (?, ?)

-- name: fence
SELECT epoch, state, crashes FROM activation WHERE number = ?

-- name: activation
SELECT * FROM activation WHERE number = ? AND id = ?

-- name: add_alias
INSERT INTO alias (id, number) VALUES (?, ?)

-- name: alias
SELECT * FROM activation WHERE number = (SELECT number FROM alias WHERE id = ?)

-- name: finish_activation
UPDATE activation SET state = 'done', error = NULL, ended = ?, worker = NULL, due = NULL, crashes = 0 WHERE number = ?

-- name: end_activation
UPDATE activation SET state = ?, error = ?, ended = ?, worker = NULL, due = NULL, crashes = 0 WHERE number = ?

-- name: cancel_activation
UPDATE activation SET state = 'cancelled', epoch = epoch + 1, ended = ?, worker = NULL, due = NULL WHERE number = ?

-- name: delay_activation
UPDATE activation SET state = 'delayed', error = ?, due = ?, attempt = ?, deferrals = deferrals + ?, worker = NULL,
    crashes = 0
WHERE number = ?

-- name: wake_activation
UPDATE activation SET state = 'ready', due = NULL WHERE number = ?

-- name: lease_activation
UPDATE activation SET state = 'running', epoch = epoch + 1, attempt = attempt + 1, worker = ? WHERE number = ?

-- name: give_back
UPDATE activation SET state = 'ready', epoch = epoch + 1, attempt = attempt - 1, worker = NULL WHERE number = ?

-- name: ready_of_agent
SELECT * FROM activation WHERE ended IS NULL AND state = 'ready' AND agent = ? AND (crashes = 0 OR ?)
ORDER BY priority DESC, number LIMIT ?

-- name: count_running
SELECT count(*) FROM activation WHERE ended IS NULL AND state = 'running' AND agent = ?

-- name: count_ready
SELECT count(*) FROM activation WHERE ended IS NULL AND state = 'ready' AND agent = ?

-- name: suspect_runs
SELECT EXISTS (SELECT 1 FROM activation WHERE state = 'running' AND crashes > 0 AND ended IS NULL)

-- name: suspects_waiting
SELECT DISTINCT agent FROM activation WHERE state = 'ready' AND crashes > 0 AND ended IS NULL

-- name: runs_here
SELECT EXISTS (SELECT 1 FROM activation WHERE state = 'running' AND worker = ? AND ended IS NULL)

-- name: running_of_worker
SELECT * FROM activation WHERE state = 'running' AND worker = ? AND ended IS NULL

-- name: delayed_activations
SELECT number, due, agent FROM activation WHERE state = 'delayed' AND due <= ? ORDER BY due, number LIMIT ?

-- name: open_activations
SELECT * FROM activation WHERE ended IS NULL ORDER BY number

-- name: open_activations_of_run
SELECT * FROM activation WHERE ended IS NULL AND (run = :run OR (runs IS NOT NULL AND :run IN
    (SELECT value FROM json_each(runs)))) ORDER BY number

-- name: count_states
SELECT state, count(*) FROM activation WHERE ended IS NULL GROUP BY state

-- name: count_states_of_run
SELECT state, count(*) FROM activation WHERE ended IS NULL AND (run = :run OR (runs IS NOT NULL AND :run IN
    (SELECT value FROM json_each(runs)))) GROUP BY state

-- name: timer_runs
SELECT EXISTS (SELECT 1 FROM activation WHERE ended IS NULL AND cause = 'timer' AND agent = ?)

-- name: timer
SELECT iteration, fire_time, skipped FROM timer WHERE agent = ? ORDER BY at DESC LIMIT 1

-- name: save_timer
INSERT OR REPLACE INTO timer (agent, at, iteration, fire_time, skipped) VALUES (?, ?, ?, ?, ?)

-- name: timers
SELECT agent, iteration, fire_time, skipped FROM timer AS newest
WHERE at = (SELECT max(at) FROM timer WHERE timer.agent = newest.agent)

-- name: consumptions
SELECT agent, id, state FROM activation WHERE number IN (SELECT activation FROM input WHERE artifact = ?)
ORDER BY number

-- name: delay_offer
INSERT INTO delayed (due, subscription, agent, artifact, run, slot, key, came) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: delayed_offers
SELECT number, due, subscription, artifact, slot, key FROM delayed
WHERE gone IS NULL AND due <= ? AND subscription IN (SELECT subscription FROM temp.declared)
ORDER BY due, number LIMIT ?

-- name: end_delayed
UPDATE delayed SET gone = ?, why = ? WHERE number = ?

-- name: delayed_of_run
SELECT number, artifact FROM delayed WHERE gone IS NULL AND run = ? ORDER BY due, number

-- name: delayed_waiting
SELECT delayed.due, delayed.agent, delayed.run, artifact.id, delayed.subscription FROM delayed
JOIN artifact ON artifact.sequence = delayed.artifact
WHERE gone IS NULL AND (? IS NULL OR delayed.run = ?) ORDER BY delayed.due, delayed.number

-- name: count_delayed
SELECT count(*) FROM delayed WHERE gone IS NULL AND (? IS NULL OR run = ?)

-- name: collector
SELECT number, position, due FROM collector WHERE subscription = ? AND scope = ?

-- name: add_collector
INSERT INTO collector (subscription, agent, scope, position) VALUES (?, ?, ?, 0)

-- name: save_collector
UPDATE collector SET position = ?, due = ? WHERE number = ?

-- name: collectors_due
SELECT number, subscription, scope, position, due FROM collector
WHERE due <= ? AND subscription IN (SELECT subscription FROM temp.declared) ORDER BY due, number LIMIT ?

-- name: collectors_holding
SELECT number, subscription, scope, position, due FROM collector
WHERE subscription IN (SELECT subscription FROM temp.declared) AND number IN (
    SELECT collector FROM held WHERE gone IS NULL AND slot >= 0 AND (:run IS NULL OR run = :run OR
        (runs IS NOT NULL AND :run IN (SELECT value FROM json_each(runs))))) ORDER BY number

-- name: shelf
SELECT lengths, counters FROM shelf WHERE collector = ? AND stage = ? AND key = ?

-- name: shelves
SELECT stage, key FROM shelf WHERE collector = ? ORDER BY stage, key

-- name: shelves_of_key
SELECT stage, key FROM shelf WHERE collector = ? AND key = ? ORDER BY stage

-- name: save_shelf
INSERT INTO shelf (collector, stage, key, lengths, counters) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (collector, stage, key) DO UPDATE SET lengths = excluded.lengths, counters = excluded.counters

-- name: drop_shelf
DELETE FROM shelf WHERE collector = ? AND stage = ? AND key = ?

-- name: hold
INSERT INTO held (collector, stage, key, slot, position, arrived, artifact, parts, run, runs, timed, came)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: count_up
INSERT INTO held (collector, stage, key, slot, position, arrived, artifact, parts, run, timed, came, gone, why, left_at)
VALUES (:collector, :stage, '', :slot, 0, :now, :artifact, '[]', :run, 0, :at, :at, 'counted', :now)

-- name: head
SELECT number, position, arrived, parts FROM held
WHERE collector = ? AND stage = ? AND key = ? AND slot = ? AND gone IS NULL ORDER BY number LIMIT ?

-- name: oldest
SELECT number, position, arrived, parts, key FROM held
WHERE collector = ? AND stage = 0 AND gone IS NULL ORDER BY number LIMIT 1

-- name: let_go
UPDATE held SET gone = ?, why = ?, left_at = ? WHERE number = ?

-- name: held_of_run
SELECT number, collector, stage, key, slot, parts, timed FROM held
WHERE gone IS NULL AND run = ? ORDER BY collector, stage, key, slot, number

-- name: held_waiting
SELECT collector.number, subscription, collector.agent, scope, stage, key, slot, held.position, arrived, parts, runs
FROM held JOIN collector ON collector.number = held.collector
WHERE held.gone IS NULL AND (:run IS NULL OR (held.collector, held.stage, held.key) IN (
    SELECT collector, stage, key FROM held WHERE gone IS NULL AND (run = :run OR (runs IS NOT NULL AND
        :run IN (SELECT value FROM json_each(runs))))))
ORDER BY collector.number, stage, key, slot, held.number

-- name: count_held
SELECT count(*) FROM (SELECT DISTINCT collector, stage, key FROM held
WHERE gone IS NULL AND (:run IS NULL OR run = :run OR (runs IS NOT NULL AND
    :run IN (SELECT value FROM json_each(runs)))))

-- name: had
SELECT EXISTS (SELECT 1 FROM input JOIN activation ON activation.number = input.activation
        WHERE input.artifact = :artifact AND activation.subscription = :subscription)
    OR EXISTS (SELECT 1 FROM held JOIN collector ON collector.number = held.collector
        WHERE held.artifact = :artifact AND collector.subscription = :subscription)
    OR EXISTS (SELECT 1 FROM delayed WHERE artifact = :artifact AND subscription = :subscription)

-- name: next_due
SELECT min(due) FROM (
    SELECT min(due) AS due FROM activation WHERE state = 'delayed'
    UNION ALL
    SELECT min(due) FROM collector
    WHERE due IS NOT NULL AND subscription IN (SELECT subscription FROM temp.declared)
    UNION ALL
    SELECT min(due) FROM delayed
    WHERE gone IS NULL AND subscription IN (SELECT subscription FROM temp.declared)
)

-- name: count_declared
SELECT count(*) FROM temp.declared

-- name: declare
INSERT OR REPLACE INTO temp.declared (subscription) VALUES (?)

-- name: add_worker
INSERT INTO worker (token, pid, lease, beat) VALUES (?, ?, ?, ?)

-- name: beat
UPDATE worker SET beat = ? WHERE number = ?

-- name: workers
SELECT number, token, lease, beat FROM worker WHERE number <> ?

-- name: drop_worker
DELETE FROM worker WHERE number = ?

-- name: serve
INSERT OR IGNORE INTO served (worker, agent) VALUES (?, ?)

-- name: unserve
DELETE FROM served WHERE worker = ?

-- name: agents_waited_for
WITH RECURSIVE name (agent) AS (
    SELECT min(agent) FROM activation WHERE ended IS NULL
    UNION ALL
    SELECT (SELECT min(agent) FROM activation WHERE ended IS NULL AND agent > name.agent) FROM name
    WHERE name.agent IS NOT NULL
)
SELECT agent FROM name WHERE agent IS NOT NULL AND agent NOT IN (SELECT agent FROM served)
UNION
SELECT agent FROM collector WHERE due IS NOT NULL AND agent NOT IN (SELECT agent FROM served)

-- name: unserved_work
SELECT (SELECT count(*) FROM activation WHERE ended IS NULL AND agent IN (SELECT value FROM json_each(:agents))
        AND (:run IS NULL OR run = :run OR (runs IS NOT NULL AND :run IN (SELECT value FROM json_each(runs)))))
    + (SELECT count(*) FROM held JOIN collector ON collector.number = held.collector
        WHERE held.gone IS NULL AND held.timed AND collector.agent IN (SELECT value FROM json_each(:agents))
        AND (:run IS NULL OR held.run = :run))

-- name: crashed
UPDATE activation SET state = 'ready', epoch = epoch + 1, worker = NULL, crashes = crashes + 1
WHERE state = 'running' AND worker = ? AND ended IS NULL

-- name: overdue
UPDATE activation SET state = 'ready', epoch = epoch + 1, worker = NULL
WHERE state = 'running' AND worker = ? AND ended IS NULL

-- name: orphans
UPDATE activation SET state = 'ready', epoch = epoch + 1, worker = NULL, crashes = crashes + 1
WHERE state = 'running' AND ended IS NULL AND worker NOT IN (SELECT number FROM worker)

-- name: failures
SELECT * FROM activation WHERE state = 'failed' AND (? IS NULL OR run = ?) ORDER BY number

-- name: remember_end
INSERT OR REPLACE INTO retried (activation, ended, again, attempt, error)
SELECT number, ended, ?, attempt, error FROM activation WHERE number = ?

-- name: retry
UPDATE activation SET state = 'ready', epoch = epoch + 1, attempt = 0, deferrals = 0, crashes = 0, error = NULL,
    ended = NULL WHERE number = ?

-- name: fates
SELECT subscription, agent, state, at FROM (
    SELECT subscription, agent, 'consumed' AS state, NULL AS at FROM activation
    WHERE number IN (SELECT activation FROM input WHERE artifact = :artifact)
    UNION ALL
    SELECT collector.subscription, collector.agent,
        CASE last.why WHEN 'collected' THEN 'consumed' WHEN 'expired' THEN 'expired' WHEN 'withdrawn' THEN 'withdrawn'
            ELSE 'waiting' END,
        coalesce(last.left_at, last.arrived)
    FROM held AS came JOIN collector ON collector.number = came.collector
    -- What has left a stage and is no activation's input is at a later stage, as a part of what came there.
    JOIN held AS last ON last.number = CASE WHEN came.why = 'collected' AND NOT EXISTS (
            SELECT 1 FROM input JOIN activation ON activation.number = input.activation
            WHERE input.artifact = :artifact AND activation.subscription = collector.subscription)
        THEN coalesce((SELECT max(later.number) FROM held AS later WHERE later.collector = came.collector
            AND later.artifact IS NULL AND later.slot >= 0
            AND EXISTS (SELECT 1 FROM json_tree(later.parts) WHERE atom = :artifact)), came.number)
        ELSE came.number END
    WHERE came.artifact = :artifact AND came.slot >= 0
    UNION ALL
    SELECT subscription, agent, CASE WHEN gone IS NULL THEN 'delayed' ELSE 'withdrawn' END, due FROM delayed
    WHERE artifact = :artifact AND (gone IS NULL OR why = 'withdrawn')
)

-- name: horizon_of_artifacts
SELECT max(at) FROM (
    SELECT max(ended) AS at FROM activation WHERE number IN
        (SELECT activation FROM input WHERE artifact IN (SELECT value FROM json_each(:gone)))
    UNION ALL
    SELECT max(gone) FROM held WHERE artifact IN (SELECT value FROM json_each(:gone))
    UNION ALL
    SELECT max(gone) FROM delayed WHERE artifact IN (SELECT value FROM json_each(:gone))
)

-- name: horizon_of_run
SELECT max(ended) FROM activation WHERE run = ?

-- name: prunable
SELECT sequence, run FROM artifact
WHERE sequence > :since AND payload IS NOT NULL
    AND (:before IS NULL OR created < :before)
    AND (:keep IS NULL OR run IN (SELECT name FROM counts WHERE open = 0 AND timed = 0 AND name NOT IN
        (SELECT name FROM counts WHERE name <> '' AND open = 0 AND timed = 0
            ORDER BY quiet DESC, first DESC LIMIT :keep)))
    AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
    AND NOT EXISTS (SELECT 1 FROM input JOIN activation ON activation.number = input.activation
        WHERE input.artifact = sequence AND activation.ended IS NULL)
    AND NOT EXISTS (SELECT 1 FROM held WHERE held.artifact = sequence AND held.gone IS NULL)
    AND NOT EXISTS (SELECT 1 FROM delayed WHERE delayed.artifact = sequence AND delayed.gone IS NULL)
    AND sequence NOT IN (SELECT atom FROM held, json_tree(held.parts)
        WHERE held.gone IS NULL AND held.artifact IS NULL AND atom IS NOT NULL)
ORDER BY sequence LIMIT :most

-- name: strip_artifact
UPDATE artifact SET payload = NULL, tags = NULL, trace_context = NULL WHERE sequence = ?

-- name: forget_held
DELETE FROM held WHERE artifact = ? AND gone IS NOT NULL

-- name: forget_delayed
DELETE FROM delayed WHERE artifact = ? AND gone IS NOT NULL

-- name: empty_runs
SELECT name FROM counts WHERE name <> '' AND artifacts = 0 AND open = 0 AND timed = 0 AND withdrawn IS NULL
    AND name > ? ORDER BY name LIMIT ?

-- name: activations_of_run
SELECT id, runs FROM activation WHERE run = ?

-- name: is_mixed
SELECT EXISTS (SELECT 1 FROM activation WHERE runs IS NOT NULL AND :run IN (SELECT value FROM json_each(runs)))

-- name: made_elsewhere
SELECT EXISTS (SELECT 1 FROM artifact WHERE activation = ? AND run <> ?)

-- name: makers_of_run
SELECT DISTINCT activation FROM artifact WHERE run = ? AND activation IS NOT NULL

-- name: related_elsewhere
SELECT EXISTS (SELECT 1 FROM artifact JOIN parent ON parent.id = artifact.id
        JOIN artifact AS child ON child.sequence = parent.child WHERE artifact.run = :run AND child.run <> :run)
    OR EXISTS (SELECT 1 FROM artifact AS child JOIN parent ON parent.child = child.sequence
        JOIN artifact ON artifact.id = parent.id WHERE child.run = :run AND artifact.run <> :run)

-- name: forget_aliases
DELETE FROM alias WHERE number IN (SELECT number FROM activation WHERE run = ? AND ended IS NOT NULL)

-- name: forget_inputs
DELETE FROM input WHERE activation IN (SELECT number FROM activation WHERE run = ? AND ended IS NOT NULL)

-- name: forget_retried
DELETE FROM retried WHERE activation IN (SELECT number FROM activation WHERE run = ? AND ended IS NOT NULL)

-- name: forget_activations
DELETE FROM activation WHERE run = ? AND ended IS NOT NULL

-- name: forget_parents
DELETE FROM parent WHERE child IN (SELECT sequence FROM artifact WHERE run = ?)

-- name: forget_artifacts
DELETE FROM artifact WHERE run = ?

-- name: forget_collectors
DELETE FROM collector WHERE scope = ? AND NOT EXISTS (SELECT 1 FROM held WHERE held.collector = collector.number)

-- name: forget_shelves
DELETE FROM shelf WHERE collector NOT IN (SELECT number FROM collector)

-- name: forget_run
DELETE FROM counts WHERE name = ?

-- name: sizes
SELECT (SELECT count(*) FROM counts) - 1, (SELECT count(*) FROM worker),
    (SELECT count(*) FROM activation WHERE state = 'failed')


-- name: image_time
SELECT max(time) FROM (
    SELECT created AS time FROM artifact WHERE sequence <= :at
    UNION ALL
    SELECT arrived FROM held WHERE came <= :at
)

-- name: image_artifacts
SELECT * FROM artifact WHERE sequence <= :at ORDER BY sequence

-- name: image_runs
SELECT name, first, quiet, withdrawn, ordinals FROM counts WHERE name <> '' AND first <= :at

-- name: image_ordinals
WITH busy (name, since, until) AS (
    SELECT run, made, ended FROM activation WHERE made <= :at AND runs IS NULL
    UNION ALL
    SELECT value, made, ended FROM activation, json_each(runs) WHERE made <= :at AND runs IS NOT NULL
    UNION ALL
    SELECT run, came, gone FROM held WHERE timed AND came <= :at AND runs IS NULL
    UNION ALL
    SELECT value, came, gone FROM held, json_each(runs) WHERE timed AND came <= :at AND runs IS NOT NULL
),
marked (name, since, until, before) AS (
    SELECT name, since, until, max(coalesce(until, :at + 1)) OVER (
        PARTITION BY name ORDER BY since, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) FROM busy
),
period (name, since) AS (
    SELECT name, max(since) FILTER (WHERE before IS NULL OR before < since) FROM marked
    GROUP BY name HAVING max(coalesce(until, :at + 1)) > :at
)
SELECT activation.run, activation.agent, max(activation.ordinal) FROM activation JOIN period ON period.name = activation.run
WHERE activation.made BETWEEN period.since AND :at GROUP BY activation.run, activation.agent

-- name: image_activations
SELECT activation.*, retried.ended, retried.attempt, retried.error FROM activation
LEFT JOIN retried ON retried.activation = number AND retried.ended <= :at AND retried.again > :at
WHERE made <= :at ORDER BY number

-- name: image_retries
SELECT activation, ended, again, attempt, error FROM retried WHERE again <= :at

-- name: image_timers
SELECT agent, at, iteration, fire_time, skipped FROM timer WHERE at <= :at ORDER BY agent, at

-- name: image_collectors
SELECT collector.number, subscription, agent, scope, position, due,
    coalesce(counting.stage, 0), coalesce(counting.counters, '[]'), coalesce(later, 0), coalesce(holds, 0)
FROM collector
LEFT JOIN shelf AS counting ON counting.collector = collector.number AND counters <> '[]'
LEFT JOIN (
    SELECT collector, count(*) FILTER (WHERE stage = 0 AND slot >= 0 AND came > :at) AS later,
        count(*) FILTER (WHERE came <= :at AND (gone IS NULL OR gone > :at)) AS holds
    FROM held GROUP BY collector
) AS items ON items.collector = collector.number
ORDER BY collector.number

-- name: image_counted_later
SELECT collector, slot, count(*) FROM held WHERE slot < 0 AND came > :at GROUP BY collector, slot

-- name: image_held
SELECT collector, stage, key, slot, position, arrived, artifact, parts, run, runs, timed, came, gone, why, left_at
FROM held WHERE came <= :at ORDER BY number

-- name: image_offers
SELECT due, subscription, agent, artifact, run, slot, key, came, gone, why FROM delayed WHERE came <= :at
ORDER BY number

-- name: is_used
SELECT EXISTS (SELECT 1 FROM artifact) OR EXISTS (SELECT 1 FROM activation) OR EXISTS (SELECT 1 FROM timer)
    OR (SELECT count(*) FROM counts) > 1

-- name: restore_artifact
INSERT INTO artifact (sequence, id, run, type, version, payload, created, produced_by, partition_key, tags, visibility,
    parents, activation, slot, trace_context, depth)
VALUES (?, ?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: restore_run
UPDATE counts SET first = ?, quiet = ?, withdrawn = ?, ordinals = ? WHERE name = ?

-- name: restore_activation
INSERT INTO activation (number, id, agent, subscription, run, runs, priority, cause, inputs, ordinal, depth, state,
    epoch, attempt, deferrals, crashes, due, fire_time, iteration, trace_context, error, made, ended)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: restore_retry
INSERT INTO retried (activation, ended, again, attempt, error) VALUES (?, ?, ?, ?, ?)

-- name: restore_collector
INSERT INTO collector (number, subscription, agent, scope, position, due) VALUES (?, ?, ?, ?, ?, ?)

-- name: restore_held
INSERT INTO held (collector, stage, key, slot, position, arrived, artifact, parts, run, runs, timed, came, gone, why,
    left_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: restore_offer
INSERT INTO delayed (due, subscription, agent, artifact, run, slot, key, came, gone, why)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
