-- What was said of answers, and what strategies have learned of it, per entry and process.
CREATE TABLE feedback (trace text PRIMARY KEY, at double precision NOT NULL, score double precision NOT NULL, body text NOT NULL);
CREATE INDEX feedback_at ON feedback (at);
CREATE TABLE learned (
  entry text NOT NULL, holder text NOT NULL, at double precision NOT NULL, body bytea NOT NULL, PRIMARY KEY (entry, holder)
);
