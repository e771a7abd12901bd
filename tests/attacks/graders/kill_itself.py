"""Kills its own process group, so that nobody is left to fail it."""

GOES_FOR = "the exit code"
SOURCE = """
import os, signal
os.killpg(0, signal.SIGKILL)
"""
