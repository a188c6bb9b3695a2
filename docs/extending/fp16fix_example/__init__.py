"""What another package can add to fp16fix: one rule, one metric, one oracle."""
