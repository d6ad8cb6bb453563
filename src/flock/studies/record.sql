-- name: schema
CREATE TABLE IF NOT EXISTS meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS attempts (
    run_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    generation INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    condition_id TEXT NOT NULL,
    problem_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    replicate INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed', 'skipped')),
    status_reason TEXT,
    started_at TEXT,
    ended_at TEXT,
    latency_s REAL,
    cost_usd REAL,
    input_tokens REAL,
    output_tokens REAL,
    primary_outcome REAL,
    error_info TEXT,
    result TEXT,
    UNIQUE (run_id, attempt)
) STRICT;

CREATE VIEW IF NOT EXISTS runs AS
SELECT *, max(attempt) AS attempts FROM attempts GROUP BY run_id;

-- name: begin
INSERT INTO attempts (
    run_id, attempt, generation, fingerprint, condition_id, problem_id, agent_id, replicate, seed, status, started_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)

-- name: finish
UPDATE attempts SET
    status = ?, status_reason = ?, started_at = ?, ended_at = ?, latency_s = ?, cost_usd = ?, input_tokens = ?,
    output_tokens = ?, primary_outcome = ?, error_info = ?, result = ?
WHERE rowid = ?

-- name: whole
INSERT INTO attempts (
    run_id, attempt, generation, fingerprint, condition_id, problem_id, agent_id, replicate, seed, status,
    status_reason, started_at, ended_at, latency_s, cost_usd, input_tokens, output_tokens, primary_outcome, error_info,
    result
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: interrupt
UPDATE attempts SET status = 'failed', status_reason = 'interrupted', error_info = ? WHERE status = 'running'

-- name: states
SELECT run_id, attempt, generation, fingerprint, status, status_reason, cost_usd FROM attempts ORDER BY rowid

-- name: last
SELECT run_id, max(attempt) FROM attempts GROUP BY run_id

-- name: running
SELECT EXISTS (SELECT 1 FROM attempts WHERE status = 'running')

-- name: earlier
SELECT run_id, attempt, generation, fingerprint, status, status_reason, cost_usd FROM attempts AS one
WHERE status = 'success' AND attempt < (SELECT max(attempt) FROM attempts AS other WHERE other.run_id = one.run_id)
ORDER BY attempt

-- name: result
SELECT result FROM attempts WHERE run_id = ? AND attempt = ?

-- name: results
SELECT run_id, result, status, status_reason, started_at, error_info FROM runs

-- name: attempts
SELECT run_id, attempt, generation, status, status_reason, started_at, ended_at, error_info FROM attempts
ORDER BY run_id, attempt

-- name: get
SELECT value FROM meta WHERE name = ?

-- name: put
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
