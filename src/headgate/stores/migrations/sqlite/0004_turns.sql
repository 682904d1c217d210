-- The last question of a lease's holder, by its number, and what it was granted: whoever did not hear the answer asks again.
ALTER TABLE leases ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN turned INTEGER NOT NULL DEFAULT 0;
