-- Times are Unix seconds, money nano-US$. Days are `2026-11-24`, in UTC.
CREATE TABLE attempts (
  id TEXT PRIMARY KEY, request_id TEXT NOT NULL, trace TEXT NOT NULL, at REAL NOT NULL, admitted REAL NOT NULL,
  holder TEXT NOT NULL, expires REAL NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL, deployment TEXT NOT NULL,
  upstream TEXT NOT NULL, key_id TEXT NOT NULL, user_name TEXT, team TEXT, tags TEXT NOT NULL, role TEXT,
  reserved INTEGER, price_version TEXT,
  state TEXT NOT NULL, swept INTEGER NOT NULL, charged INTEGER NOT NULL,
  closed REAL, outcome TEXT, error TEXT, cost INTEGER,
  input INTEGER, output INTEGER, cached_input INTEGER, cache_write INTEGER, reasoning INTEGER, audio_input INTEGER,
  audio_output INTEGER, estimated INTEGER,
  ttft REAL, latency REAL, upstream_id TEXT, status INTEGER
);
CREATE INDEX attempts_trace ON attempts (trace);
CREATE INDEX attempts_admitted ON attempts (admitted);
CREATE INDEX attempts_open ON attempts (holder, expires) WHERE state = 'intent';

CREATE TABLE requests (
  trace TEXT PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, door TEXT NOT NULL, requested TEXT NOT NULL,
  strategy TEXT NOT NULL, model TEXT, provider TEXT, key_id TEXT NOT NULL, user_name TEXT, team TEXT,
  tags TEXT NOT NULL, task TEXT, stream INTEGER NOT NULL, status INTEGER NOT NULL, error TEXT, attempts INTEGER NOT NULL,
  input INTEGER, output INTEGER, cached_input INTEGER, cache_write INTEGER, reasoning INTEGER, audio_input INTEGER,
  audio_output INTEGER, estimated INTEGER,
  cost INTEGER, saved INTEGER, ttft REAL, latency REAL NOT NULL, overhead REAL NOT NULL, trace_json BLOB
);
CREATE INDEX requests_at ON requests (at);

-- What a budget counts: written in the transaction that writes the rows, so it is their sum at every moment.
CREATE TABLE spent (
  scope TEXT NOT NULL, day TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (scope, day)
) WITHOUT ROWID;

-- Slices of budgets held by processes. `charged`: the holder is gone and its journal may have been lost.
CREATE TABLE leases (
  scope TEXT NOT NULL, since TEXT NOT NULL, holder TEXT NOT NULL, amount INTEGER NOT NULL, expires REAL NOT NULL,
  charged INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (scope, since, holder)
) WITHOUT ROWID;
CREATE INDEX leases_holder ON leases (holder);

-- Sums of closed attempts per day and dimensions: they outlive the rows.
CREATE TABLE usage_days (
  day TEXT NOT NULL, key_id TEXT NOT NULL, user_name TEXT NOT NULL, team TEXT NOT NULL, model TEXT NOT NULL,
  provider TEXT NOT NULL, deployment TEXT NOT NULL, role TEXT NOT NULL, tags TEXT NOT NULL, error TEXT NOT NULL,
  attempts INTEGER NOT NULL, failed INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
  cached INTEGER NOT NULL, cost INTEGER NOT NULL, unknown_cost INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, user_name, team, model, provider, deployment, role, tags, error)
) WITHOUT ROWID;

CREATE TABLE virtual_keys (id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE teams (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE audits (number INTEGER PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('version', 0), ('rows_from_day', 0);
