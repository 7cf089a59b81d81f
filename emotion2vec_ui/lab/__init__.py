"""What embeddings are for: similar recordings, outliers, clusters, a map, sub-classes."""
