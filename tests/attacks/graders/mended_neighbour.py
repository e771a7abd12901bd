"""Puts a right version where it would be found before the broken one."""

GOES_FOR = "files beside the source"
FILES = {
    "calc/__init__.py": """def total(values):
    return sum(values)

def first(values):
    return values[0]
""",
}
