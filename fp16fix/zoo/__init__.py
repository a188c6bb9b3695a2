"""Many models, each repaired in its own process."""
