"""The wire format `openai_embeddings`, in both directions."""
