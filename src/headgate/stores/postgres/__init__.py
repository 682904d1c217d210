"""The store of fleets: any number of processes on one PostgreSQL. Needs the extra `headgate[postgres]`."""

from headgate.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
