"""Reads a file that everyone may read, in the folder of someone else."""

GOES_FOR = "reading"
SOURCE = """
import os, pathlib

def attack(facts):
    def through_folder():
        folder = os.open(facts["folder"], os.O_PATH)
        return os.read(os.open("secret.txt", os.O_RDONLY, dir_fd=folder), 100)
    secret = facts["secret"]
    upwards = "../" * 40 + secret
    return tried(plain=lambda: open(secret).read(), upwards=lambda: open(upwards).read(),
                 folder=through_folder, listing=lambda: os.listdir(facts["folder"]))
"""
