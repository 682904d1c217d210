-- Which deployment holds an object that its provider keeps for a key.
CREATE TABLE homes (
  key_id text NOT NULL, object_id text NOT NULL, model text NOT NULL, provider text NOT NULL, deployment text NOT NULL,
  expires double precision NOT NULL, PRIMARY KEY (key_id, object_id)
);
CREATE INDEX homes_expires ON homes (expires);
