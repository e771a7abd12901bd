"""Submits files outside the tree, with absurd names and in place of folders."""

GOES_FOR = "files beside the source"
FILES = {
    "../calc.py": """""",
    "/etc/hosts": """""",
    "tests": """""",
    "a\\b\n": """""",
    "x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x": """""",
    " ": """""",
    "-rf": """""",
}
