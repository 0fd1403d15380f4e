"""Whether an algorithm computes what it claims to."""
