-- Which deployment holds an object that its provider keeps for a key.
CREATE TABLE homes (
  key_id TEXT NOT NULL, object_id TEXT NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL, deployment TEXT NOT NULL,
  expires REAL NOT NULL, PRIMARY KEY (key_id, object_id)
);
CREATE INDEX homes_expires ON homes (expires);
