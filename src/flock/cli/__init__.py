"""The `flock` command: run, check and draw what a file or module declares."""
