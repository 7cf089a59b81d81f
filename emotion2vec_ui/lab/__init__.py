"""What embeddings are for: dividing a base emotion into sub-classes of one's own."""
