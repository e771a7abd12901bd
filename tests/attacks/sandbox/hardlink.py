"""Makes a second name for a file outside, or carries a file of its own out."""

GOES_FOR = "writing"
SOURCE = """
import os

def attack(facts):
    open("mine", "w").close()
    def through_descriptor():
        os.link(f"/proc/self/fd/{os.open(facts['secret'], os.O_PATH)}", "link")
    return tried(in_=lambda: os.link(facts["secret"], "link"), fd=through_descriptor,
                 out=lambda: os.link("mine", facts["folder"] + "/planted"),
                 move=lambda: os.rename("mine", facts["folder"] + "/planted"))
"""
