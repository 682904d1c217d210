-- What was said of answers, and what strategies have learned of it, per entry and process.
CREATE TABLE feedback (trace TEXT PRIMARY KEY, at REAL NOT NULL, score REAL NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX feedback_at ON feedback (at);
CREATE TABLE learned (
  entry TEXT NOT NULL, holder TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (entry, holder)
) WITHOUT ROWID;
