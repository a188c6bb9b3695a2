"""What another package can add to fp16fix: one rule, one oracle."""
