"""The wire format `gemini`, in both directions."""
