-- Copies what is on an idle board, with new positions, ids and runs; `copy` has the number of each copy to be made.
-- The run `bulk` is not renamed: it grows. Activations of the board have one input and one run each.

CREATE TEMP TABLE last AS
SELECT sequence, (SELECT max(number) FROM activation) AS number FROM counts WHERE name = '';

CREATE TEMP TABLE maker (id TEXT PRIMARY KEY, number INTEGER, mark TEXT) WITHOUT ROWID;
INSERT INTO maker SELECT id, number, substr(id, 1, instr(id, '-')) FROM activation;

INSERT INTO artifact
SELECT copy.number * last.sequence + artifact.sequence, mine.mark || artifact.id,
    iif(run = 'bulk', run, mine.mark || run), type, version, payload, created, produced_by, partition_key, tags,
    visibility, iif(parents IS NULL, NULL, json_array(mine.mark || json_extract(parents, '$[0]'))),
    maker.mark || printf('%x', copy.number * last.number + maker.number), slot, trace_context, depth
FROM copy
JOIN (SELECT number, printf('%04d-', number) AS mark FROM copy) AS mine ON mine.number = copy.number
CROSS JOIN last
CROSS JOIN artifact ON artifact.sequence <= last.sequence
LEFT JOIN maker ON maker.id = artifact.activation
ORDER BY copy.number, artifact.sequence;

INSERT INTO activation
SELECT copy.number * last.number + activation.number,
    maker.mark || printf('%x', copy.number * last.number + activation.number), agent, subscription,
    iif(run = 'bulk', run, printf('%04d-', copy.number) || run), runs, priority, cause,
    json_array(copy.number * last.sequence + json_extract(inputs, '$[0]')), ordinal, depth, state, epoch, attempt,
    deferrals, crashes, due, fire_time, iteration, trace_context, error, worker,
    copy.number * last.sequence + made, copy.number * last.sequence + ended
FROM copy CROSS JOIN last CROSS JOIN activation ON activation.number <= last.number
JOIN maker ON maker.id = activation.id
ORDER BY copy.number, activation.number;

INSERT INTO input
SELECT copy.number * last.sequence + artifact, copy.number * last.number + activation
FROM copy CROSS JOIN last CROSS JOIN input ON input.activation <= last.number
ORDER BY 1, 2;

INSERT INTO counts
SELECT printf('%04d-', copy.number) || name, artifacts, open, timed, done, failed, cancelled, ordinals, withdrawn,
    copy.number * last.sequence + first, quiet, counts.sequence, newest_failure, steps, horizon
FROM copy CROSS JOIN last CROSS JOIN counts ON name NOT IN ('', 'bulk')
ORDER BY 1;

UPDATE counts SET artifacts = artifacts * (SELECT count(*) + 1 FROM copy), done = done * (SELECT count(*) + 1 FROM copy)
WHERE name IN ('', 'bulk');
UPDATE counts SET sequence = (SELECT max(sequence) FROM artifact) WHERE name = '';

DROP TABLE maker;
DROP TABLE last;
