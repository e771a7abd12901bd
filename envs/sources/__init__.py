"""What a config asks for: generated tasks, or those of projects."""
