-- Whose an object is that a request names.
CREATE INDEX homes_object ON homes (object_id);
