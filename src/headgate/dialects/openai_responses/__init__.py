"""The wire format `openai_responses`, in both directions."""
