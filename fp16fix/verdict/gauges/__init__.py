"""Metrics that come with fp16fix: one class each, found by its being there (``verdict.metric``)."""
