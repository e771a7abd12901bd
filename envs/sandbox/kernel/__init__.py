"""What the kernel offers to shut a run in, and to count what it does; standard library only."""
