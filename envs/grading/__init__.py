"""Submission to outcome: the io and the pytest grader, the second runner."""
