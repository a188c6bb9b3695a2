"""Each command as one function, on one screen."""
