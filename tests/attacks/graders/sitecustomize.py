"""Plants a module that the interpreter imports at its start."""

GOES_FOR = "files beside the source"
FILES = {
    "sitecustomize.py": """import os
os._exit(0)
""",
}
