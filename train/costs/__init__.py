"""What a model asks for, from its config alone: memory, operations, time and money."""
