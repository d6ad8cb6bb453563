"""Direct use of a board: agents called, runs waited for, news followed."""
