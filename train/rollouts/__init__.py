"""Episodes from a policy: generation, demonstrations, evaluation."""
