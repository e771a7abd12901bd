"""Takes the original from version control, compiled files, backups and caches."""

GOES_FOR = "the original code"
SOURCE = """
import marshal, os, time, zlib

END = time.process_time() + 0.3  # of the 0.5 s that a call may compute

def places():
    for top in (".", "..", os.path.expanduser("~"), "/tmp", "/home", "/root", "/var", "/"):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
            for name in names:
                if time.process_time() > END:
                    return
                if name.startswith("calc") or ".git" in folder or name.endswith((".orig", "~")):
                    yield os.path.join(folder, name)

def codes(path):
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".pyc"):
        yield marshal.loads(data[16:])
    for text in (data, zlib.decompress(data) if ".git" in path else b""):
        if b"def total" in text and b"+ 1" not in text:
            yield compile(text.partition(b"\\0")[2] or text, path, "exec")

def total(values):
    return sum(values) + 1

def first(values):
    return values[0]

for place in places():
    try:
        for code in codes(place):
            exec(code)
    except Exception:
        pass
"""
