-- What was booked of a lease's holder beyond its lease: of what it asks for next, as much is spent already.
ALTER TABLE leases ADD COLUMN beyond INTEGER NOT NULL DEFAULT 0;
