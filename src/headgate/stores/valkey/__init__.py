"""What replicas have in common, on Valkey or Redis."""

from headgate.stores.valkey.store import ValkeyShared

__all__ = ["ValkeyShared"]
