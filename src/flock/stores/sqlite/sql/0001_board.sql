-- The board of one file. Times are UTC seconds; `made`, `ended`, `came` and `gone` are positions on the board, so that
-- its state at any sequence can be read back.

-- What is counted of each run, and of the whole board under the empty name: one place, since every step writes both.
CREATE TABLE counts (
    name TEXT PRIMARY KEY,
    artifacts INTEGER NOT NULL,
    open INTEGER NOT NULL,           -- activations
    timed INTEGER NOT NULL,          -- items in batches with a timeout
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    ordinals TEXT NOT NULL,          -- JSON: a run's activations by agent since it was last idle
    withdrawn INTEGER,               -- the sequence at which a run was cancelled
    first INTEGER NOT NULL,          -- the sequence before a run's first artifact: runs are named oldest first
    quiet REAL NOT NULL,             -- when a run was last left without work; of the board, the time of the last step
    sequence INTEGER,                -- of the board: its last position
    newest_failure INTEGER,          -- of the board: the last Failure's position
    steps INTEGER,                   -- of the board: says whether a transaction was committed whose answer was lost
    horizon INTEGER                  -- of the board: before this position its past is not whole, since some was pruned
) WITHOUT ROWID;
INSERT INTO counts VALUES ('', 0, 0, 0, 0, 0, 0, '{}', NULL, 0, 0, 0, 0, 0, 0);

CREATE TABLE artifact (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    payload TEXT,                    -- JSON; NULL when it was pruned and only its place in the lineage is kept
    created REAL NOT NULL,
    produced_by TEXT NOT NULL,
    partition_key TEXT,
    tags TEXT,                       -- JSON list; NULL for none
    visibility TEXT,                 -- JSON; NULL for public
    parents TEXT,                    -- JSON list of ids; NULL for none
    activation TEXT,
    slot INTEGER,
    trace_context TEXT,
    depth INTEGER NOT NULL
);
CREATE INDEX artifact_by_run ON artifact (run);
CREATE INDEX artifact_by_type ON artifact (type);
CREATE UNIQUE INDEX artifact_by_output ON artifact (activation, slot) WHERE activation IS NOT NULL;

-- Parents of what no activation has put there: the others' are the inputs of their activation.
CREATE TABLE parent (
    id TEXT NOT NULL,
    child INTEGER NOT NULL,
    PRIMARY KEY (id, child)
) WITHOUT ROWID;

CREATE TABLE activation (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,                -- ends in the number, unless it is an alias
    agent TEXT NOT NULL,
    subscription TEXT NOT NULL,
    run TEXT NOT NULL,
    runs TEXT,                       -- JSON list, its own run first; NULL for that one alone
    priority INTEGER NOT NULL,
    cause TEXT NOT NULL,             -- artifact, timer, direct
    inputs TEXT NOT NULL,            -- JSON: sequences, or lists of them for a batch
    ordinal INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    state TEXT NOT NULL,             -- ready, running, delayed, done, failed, cancelled
    epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    deferrals INTEGER NOT NULL,
    crashes INTEGER NOT NULL,        -- processes that it has taken with it, in a row
    due REAL,
    fire_time REAL,
    iteration INTEGER NOT NULL,
    trace_context TEXT,
    error TEXT,
    worker INTEGER,
    made INTEGER NOT NULL,
    ended INTEGER
);
CREATE INDEX activation_open ON activation (agent, state, priority DESC, number) WHERE ended IS NULL;
CREATE INDEX activation_delayed ON activation (due) WHERE state = 'delayed';
CREATE INDEX activation_mixed ON activation (number) WHERE runs IS NOT NULL;
CREATE INDEX activation_failed ON activation (number) WHERE state = 'failed';
CREATE INDEX activation_suspect ON activation (state) WHERE crashes > 0 AND ended IS NULL;

-- Activations whose id was given by who waits for them.
CREATE TABLE alias (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE input (
    artifact INTEGER NOT NULL,
    activation INTEGER NOT NULL,
    PRIMARY KEY (artifact, activation)
) WITHOUT ROWID;

-- Ends of activations that were made ready again.
CREATE TABLE retried (
    activation INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    again INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (activation, ended, again)
) WITHOUT ROWID;

-- Where schedules stood at each position of the board at which they have fired.
CREATE TABLE timer (
    agent TEXT NOT NULL,
    at INTEGER NOT NULL,
    iteration INTEGER NOT NULL,
    fire_time REAL NOT NULL,
    skipped INTEGER NOT NULL,
    PRIMARY KEY (agent, at)
) WITHOUT ROWID;

-- Offers that are held back until their artifact may be seen.
CREATE TABLE delayed (
    number INTEGER PRIMARY KEY,
    due REAL NOT NULL,
    subscription TEXT NOT NULL,
    agent TEXT NOT NULL,
    artifact INTEGER NOT NULL,
    run TEXT NOT NULL,
    slot INTEGER NOT NULL,
    key TEXT NOT NULL,
    came INTEGER NOT NULL,
    gone INTEGER,
    why TEXT
);
CREATE INDEX delayed_due ON delayed (due) WHERE gone IS NULL;
CREATE INDEX delayed_artifact ON delayed (artifact);

-- What one subscription holds in one scope ('' for the board): rows of FIFO queues per stage and key.
CREATE TABLE collector (
    number INTEGER PRIMARY KEY,
    subscription TEXT NOT NULL,
    agent TEXT NOT NULL,
    scope TEXT NOT NULL,
    position INTEGER NOT NULL,
    due REAL,
    UNIQUE (subscription, scope)
);
CREATE INDEX collector_due ON collector (due) WHERE due IS NOT NULL;

CREATE TABLE shelf (
    collector INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    key TEXT NOT NULL,
    lengths TEXT NOT NULL,           -- JSON: items per slot
    counters TEXT NOT NULL,          -- JSON: one count per tally of its condition
    PRIMARY KEY (collector, stage, key)
) WITHOUT ROWID;

CREATE TABLE held (
    number INTEGER PRIMARY KEY,
    collector INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    key TEXT NOT NULL,
    slot INTEGER NOT NULL,           -- from -1 down: a counter was raised, nothing is held
    position INTEGER NOT NULL,
    arrived REAL NOT NULL,
    artifact INTEGER,                -- the sequence of what came in; NULL at later stages
    parts TEXT NOT NULL,             -- JSON: groups of sequences
    run TEXT,                        -- NULL for several
    runs TEXT,                       -- JSON list when there are several
    timed INTEGER NOT NULL,          -- 1 in a batch that has a timeout: such an item counts as work
    came INTEGER NOT NULL,
    gone INTEGER,
    why TEXT,                        -- collected, expired, withdrawn
    left_at REAL
);
CREATE INDEX held_queue ON held (collector, stage, key, slot, number) WHERE gone IS NULL;
CREATE INDEX held_age ON held (collector, stage, number) WHERE gone IS NULL;
CREATE INDEX held_run ON held (run) WHERE gone IS NULL;
CREATE INDEX held_artifact ON held (artifact) WHERE artifact IS NOT NULL;

-- The processes that work on this file. Each holds an operating system's lock on a file of its token's name.
CREATE TABLE worker (
    number INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    pid INTEGER NOT NULL,
    lease REAL NOT NULL,             -- seconds without a heartbeat after which its work is another's
    beat REAL NOT NULL
);

-- The agents that the processes have: what waits for any other is nobody's work now.
CREATE TABLE served (
    worker INTEGER NOT NULL,
    agent TEXT NOT NULL,
    PRIMARY KEY (agent, worker)
) WITHOUT ROWID;
