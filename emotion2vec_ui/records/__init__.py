"""A result as it is kept, and all results together."""
