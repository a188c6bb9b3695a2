"""What breaks FP16 and what is the least that mends it: shadow runs, harmless proofs, the judge, minimisation."""
