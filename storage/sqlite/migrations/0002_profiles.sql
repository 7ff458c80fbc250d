-- work.kind: 4 profile. A CHECK can't be changed: the table is made again.
CREATE TABLE work_v2 (
  study         TEXT NOT NULL REFERENCES studies (id),
  kind          INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
  number        INTEGER NOT NULL,
  state         TEXT NOT NULL DEFAULT 'waiting',
  token         INTEGER NOT NULL DEFAULT 0,
  attempts      INTEGER NOT NULL DEFAULT 0,
  worker        TEXT NOT NULL DEFAULT '',
  candidate     TEXT NOT NULL,
  choices       TEXT NOT NULL DEFAULT '[]',
  fingerprint   TEXT NOT NULL DEFAULT '',
  result        TEXT,
  error_code    TEXT,
  error_message TEXT,
  created_at    TEXT NOT NULL,
  started_at    TEXT NOT NULL DEFAULT '',
  finished_at   TEXT NOT NULL DEFAULT '',
  UNIQUE (study, kind, number)
) STRICT;
INSERT INTO work_v2 (study, kind, number, state, token, attempts, worker, candidate, choices,
                     fingerprint, result, error_code, error_message, created_at, started_at,
                     finished_at)
  SELECT study, kind, number, state, token, attempts, worker, candidate, choices, fingerprint,
         result, error_code, error_message, created_at, started_at, finished_at
  FROM work ORDER BY rowid;
DROP TABLE work;
ALTER TABLE work_v2 RENAME TO work;
CREATE UNIQUE INDEX trials_by_fingerprint ON work (study, fingerprint) WHERE kind = 1;
CREATE INDEX waiting_work ON work (study, kind, number) WHERE state = 'waiting';
CREATE INDEX running_work ON work (study, kind, number) WHERE state = 'running';

-- What was learned of models by cheap looks, for all studies.
CREATE TABLE looks (
  key  TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
