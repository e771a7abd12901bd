"""Episode record to numbers: outcome, cost, advantages, intervals; pure, no I/O."""
