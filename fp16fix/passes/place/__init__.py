"""Which nodes run wide: what must, and the cheapest islands around it."""
