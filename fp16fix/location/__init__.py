"""What breaks FP16 and where; evidence from elsewhere; the least that must be FP32."""
