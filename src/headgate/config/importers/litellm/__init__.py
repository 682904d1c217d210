"""LiteLLM's proxy configuration → Headgate's, and a list of all that it holds and we cannot say."""

from headgate.config.importers.litellm.convert import Imported, import_litellm
from headgate.config.importers.litellm.keys import ImportedKeys, import_keys
from headgate.config.importers.litellm.source import Note

__all__ = ["Imported", "ImportedKeys", "Note", "import_keys", "import_litellm"]
