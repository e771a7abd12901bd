"""Real repositories to tasks: lock file, suite, test impact, mutants, verdicts."""
