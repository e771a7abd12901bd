"""What a model holds: its log as a view, what rewrites it, what its tokens are spent on."""
