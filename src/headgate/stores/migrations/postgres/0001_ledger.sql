-- Times are Unix seconds, money nano-US$. Days are `2026-11-24`, in UTC. Rows lie in partitions by day, which are made as
-- they are needed and dropped whole.
CREATE TABLE attempts (
  id text NOT NULL, request_id text NOT NULL, trace text NOT NULL, at double precision NOT NULL,
  admitted double precision NOT NULL, holder text NOT NULL, expires double precision NOT NULL, model text NOT NULL,
  provider text NOT NULL, deployment text NOT NULL, upstream text NOT NULL, key_id text NOT NULL, user_name text,
  team text, tags text NOT NULL, role text, reserved bigint, price_version text,
  state text NOT NULL, swept smallint NOT NULL, charged bigint NOT NULL,
  closed double precision, outcome text, error text, cost bigint,
  input bigint, output bigint, cached_input bigint, cache_write bigint, reasoning bigint, audio_input bigint,
  audio_output bigint, estimated smallint,
  ttft double precision, latency double precision, upstream_id text, status integer,
  day text COLLATE "C" NOT NULL,
  PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE INDEX attempts_trace ON attempts (trace);
CREATE INDEX attempts_admitted ON attempts (admitted);
CREATE INDEX attempts_open ON attempts (holder, expires) WHERE state = 'intent';

CREATE TABLE requests (
  trace text NOT NULL, id text NOT NULL, at double precision NOT NULL, door text NOT NULL, requested text NOT NULL,
  strategy text NOT NULL, model text, provider text, key_id text NOT NULL, user_name text, team text,
  tags text NOT NULL, task text, stream smallint NOT NULL, status integer NOT NULL, error text, attempts integer NOT NULL,
  input bigint, output bigint, cached_input bigint, cache_write bigint, reasoning bigint, audio_input bigint,
  audio_output bigint, estimated smallint,
  cost bigint, saved bigint, ttft double precision, latency double precision NOT NULL, overhead double precision NOT NULL,
  trace_json bytea, day text COLLATE "C" NOT NULL,
  PRIMARY KEY (trace, day)
) PARTITION BY RANGE (day);
CREATE INDEX requests_at ON requests (at);

CREATE TABLE spent (
  scope text COLLATE "C" NOT NULL, day text COLLATE "C" NOT NULL, amount bigint NOT NULL, PRIMARY KEY (scope, day)
);
CREATE TABLE leases (
  scope text COLLATE "C" NOT NULL, since text COLLATE "C" NOT NULL, holder text NOT NULL, amount bigint NOT NULL,
  expires double precision NOT NULL, charged boolean NOT NULL DEFAULT false, PRIMARY KEY (scope, since, holder)
);
CREATE INDEX leases_holder ON leases (holder);

CREATE TABLE usage_days (
  day text COLLATE "C" NOT NULL, key_id text COLLATE "C" NOT NULL, user_name text COLLATE "C" NOT NULL,
  team text COLLATE "C" NOT NULL, model text COLLATE "C" NOT NULL, provider text COLLATE "C" NOT NULL,
  deployment text COLLATE "C" NOT NULL, role text COLLATE "C" NOT NULL, tags text COLLATE "C" NOT NULL,
  error text COLLATE "C" NOT NULL,
  attempts bigint NOT NULL, failed bigint NOT NULL, input bigint NOT NULL, output bigint NOT NULL, cached bigint NOT NULL,
  cost bigint NOT NULL, unknown_cost bigint NOT NULL,
  PRIMARY KEY (day, key_id, user_name, team, model, provider, deployment, role, tags, error)
);

CREATE TABLE virtual_keys (id text PRIMARY KEY, hash text NOT NULL UNIQUE, body text NOT NULL);
CREATE TABLE teams (id text PRIMARY KEY, body text NOT NULL);
CREATE TABLE audits (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at double precision NOT NULL, body text NOT NULL);
CREATE TABLE facts (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO facts VALUES ('version', 0), ('rows_from_day', 0);
