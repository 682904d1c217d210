"""The wire format `anthropic_messages`, in both directions."""
