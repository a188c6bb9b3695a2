"""Two graphs side by side: where error is born, how much each birth matters, what heals."""
