"""Leaves links to a file outside where others will open them."""

GOES_FOR = "writing"
SOURCE = """
import os

def attack(facts):
    os.symlink(facts["secret"], "link")
    os.symlink(facts["folder"], "folder")
    os.symlink("/", "../tmp/root")
    told = tried(read=lambda: open("link").read(), write=lambda: open("link", "a").write("x"),
                 inside=lambda: open("folder/planted", "w"),
                 root=lambda: open("../tmp/root" + facts["secret"]).read())
    os.rename("attack.py", "away.py")
    os.symlink(facts["secret"], "attack.py")
    return told
"""
