"""LiteLLM's proxy configuration → Headgate's, and a list of all that it holds and we cannot say."""

from headgate.config.importers.litellm.convert import Imported, import_litellm
from headgate.config.importers.litellm.source import Note

__all__ = ["Imported", "Note", "import_litellm"]
