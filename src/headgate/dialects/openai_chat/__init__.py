"""The wire format `openai_chat`, in both directions."""
