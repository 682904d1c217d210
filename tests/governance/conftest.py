from support.at_rest import at_rest

__all__ = ["at_rest"]
