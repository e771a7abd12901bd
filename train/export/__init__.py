"""The servable folder, and the check that it loads."""
