"""The commands as functions: models and samples in memory or on disk in, results in memory out."""
