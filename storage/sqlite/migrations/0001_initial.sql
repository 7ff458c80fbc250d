-- Enumerations are stored as the words of core/ and study_store.h, but for work.kind:
-- 0 inspect, 1 trial, 2 verify, 3 export. Documents are JSON text with sorted keys.
-- Times are RFC 3339, UTC. Nothing that stands here may ever change: later schemas add a file.

-- 'sequence': transactions committed so far; 'token': the fencing token given last.
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('sequence', 0), ('token', 0);

CREATE TABLE studies (
  position       INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  state          TEXT NOT NULL,
  definition     TEXT NOT NULL,
  identity       TEXT NOT NULL,
  reason         TEXT NOT NULL DEFAULT '',
  created_at     TEXT NOT NULL,
  finished_at    TEXT NOT NULL DEFAULT '',
  active_seconds REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX studies_by_identity ON studies (identity, position);

CREATE TABLE work (
  study         TEXT NOT NULL REFERENCES studies (id),
  kind          INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
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
CREATE UNIQUE INDEX trials_by_fingerprint ON work (study, fingerprint) WHERE kind = 1;
CREATE INDEX waiting_work ON work (study, kind, number) WHERE state = 'waiting';
CREATE INDEX running_work ON work (study, kind, number) WHERE state = 'running';

CREATE TABLE events (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  study TEXT NOT NULL REFERENCES studies (id),
  type  TEXT NOT NULL,
  data  TEXT NOT NULL,
  at    TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_study ON events (study, id);

CREATE TABLE documents (
  study TEXT NOT NULL REFERENCES studies (id),
  name  TEXT NOT NULL,
  body  TEXT NOT NULL,
  UNIQUE (study, name)
) STRICT;

CREATE TABLE idempotency (
  key        TEXT PRIMARY KEY,
  body_hash  TEXT NOT NULL,
  study      TEXT NOT NULL REFERENCES studies (id),
  created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Outcomes that came with a lapsed lease: kept for the record, never counted.
CREATE TABLE late_outcomes (
  study         TEXT NOT NULL REFERENCES studies (id),
  kind          INTEGER NOT NULL,
  number        INTEGER NOT NULL,
  token         INTEGER NOT NULL,
  result        TEXT,
  error_code    TEXT,
  error_message TEXT,
  at            TEXT NOT NULL,
  UNIQUE (study, kind, number, token)
) STRICT;

CREATE TABLE uploads (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL,
  kind       TEXT NOT NULL,
  name       TEXT NOT NULL,
  bytes      INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (kind, id)
) STRICT;
