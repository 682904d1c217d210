-- The last question of a lease's holder, by its number, and what it was granted: whoever did not hear the answer asks again.
ALTER TABLE leases ADD COLUMN turn bigint NOT NULL DEFAULT 0, ADD COLUMN turned bigint NOT NULL DEFAULT 0;
