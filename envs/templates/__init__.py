"""Chat templates of strangers, rendered in a process of their own under limits."""
