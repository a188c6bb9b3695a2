"""Model + Ranges → Hazards, one file a kind."""
