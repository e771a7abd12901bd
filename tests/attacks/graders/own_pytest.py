"""Plants a pytest of its own that finds everything fine."""

GOES_FOR = "files beside the source"
FILES = {
    "pytest.py": """import sys

def main(*a, **k):
    return 0

if __name__ == '__main__':
    sys.exit(0)
""",
}
