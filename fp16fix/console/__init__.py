"""What a terminal or a notebook is shown: results in a few lines, progress, text that moves no cursor; no command and no exit."""
