"""Habits of scripted demonstrators, and mistakes that they make and repair."""
