"""What embeddings are for: recordings alike, recordings that stand apart."""
