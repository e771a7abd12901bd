"""GRPO's machinery: trainer, segments, checkpoints, dev evaluation."""
