"""Ways by which one run could tell another beside it a bit, and how many bits they moved.

A channel is a class: `send` sets something, which may go for good or be taken back; `look` returns
what the other one sees of it. Both programs go by the clock, a slot for each bit. Each is tried
without a sandbox as well, where it has to work: otherwise nothing is shown by its failure.
"""

import ast
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from envs.sandbox.levels import ServerProcess

SLOT_S, NUM_SLOTS, START_S = 0.1, 24, 2.0
LEAST_RIGHT = 21  # of the slots, told by a threshold: by chance fewer are
LEAST_OUTSIDE = 6  # channels; some machines have no keyrings, or no room that can be seen
OUT_OF_REACH = {"room on a disk"}  # without namespaces: docs/security.md
PRELUDE = """
import ctypes, fcntl, glob, mmap, os, signal, socket, struct, tempfile, time
signal.setitimer(signal.ITIMER_PROF, 0)
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
NAME = "tightrope-%(mark)s"
SHARED = os.__file__  # which every run may read

def called(result):
    if result is None or result in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""
DATAGRAMS = """
def __init__(self):
    self.socket = socket.socket(socket.FAMILY, socket.SOCK_DGRAM)
    self.bound = False
def send(self, bit):
    if bit:
        self.socket.sendto(b"x", ADDRESS)
def look(self):
    if not self.bound:
        self.socket.bind(ADDRESS)
        self.socket.setblocking(False)
        self.bound = True
    try:
        return len(self.socket.recv(9))
    except BlockingIOError:
        return 0
"""
CHANNELS = {
    "lock of a whole file": """
def __init__(self):
    self.file = os.open(SHARED, os.O_RDONLY)
def send(self, bit):
    fcntl.flock(self.file, fcntl.LOCK_EX if bit else fcntl.LOCK_UN)
def look(self):
    try:
        fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return 1
    fcntl.flock(self.file, fcntl.LOCK_UN)
    return 0
""",
    "lock of a part of a file": """
def __init__(self):
    self.file = os.open(SHARED, os.O_RDONLY)
def send(self, bit):
    kind = fcntl.F_RDLCK if bit else fcntl.F_UNLCK
    fcntl.fcntl(self.file, 37, struct.pack("hhqqi4x", kind, 0, 5, 1, 0))
def look(self):
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 5, 1, 0)
    found = fcntl.fcntl(self.file, 36, asked)
    return struct.unpack("hhqqi4x", found)[0] != fcntl.F_UNLCK
""",
    "watch on a file": """
def __init__(self):
    self.watch = None
def send(self, bit):
    if bit:
        os.close(os.open(SHARED, os.O_RDONLY))
def look(self):
    if self.watch is None:
        self.watch = called(libc.inotify_init1(0o4000))
        called(libc.inotify_add_watch(self.watch, SHARED.encode(), 0x20))
    try:
        return len(os.read(self.watch, 2**16)) > 0
    except BlockingIOError:
        return 0
""",
    "datagram to an abstract name": DATAGRAMS.replace("FAMILY", "AF_UNIX").replace(
        "ADDRESS", "chr(0) + NAME"
    ),
    "datagram to a port": DATAGRAMS.replace("FAMILY", "AF_INET").replace(
        "ADDRESS", '("127.0.0.1", %(port)d)'
    ),
    "shared memory of System V": """
def __init__(self):
    self.part = called(libc.shmat(called(libc.shmget(%(port)d, 4096, 0o1666)), None, 0))
def send(self, bit):
    ctypes.memset(self.part, bit, 1)
def look(self):
    return ctypes.string_at(self.part, 1)[0]
def close(self):
    libc.shmctl(libc.shmget(%(port)d, 4096, 0), 0, None)
""",
    "file in a folder for all": """
def __init__(self):
    self.places = ["/tmp", "/var/tmp", "/dev/shm"]
def send(self, bit):
    for place in self.places:
        path = f"{place}/{NAME}"
        try:
            os.mkdir(path) if bit else os.rmdir(path)
        except OSError:
            pass
def look(self):
    return sum(os.path.exists(f"{place}/{NAME}") for place in self.places)
def close(self):
    self.send(0)
""",
    "file in a folder of its own": """
def __init__(self):
    self.seen = ["/box*/*/*", "/tmp/*/*", "/tmp/*/*/*", "../../*/*/*", "/proc/[0-9]*/cwd/*"]
    self.own = tempfile.mkdtemp()
def send(self, bit):
    path = f"{self.own}/{NAME}-own"
    open(path, "w").close() if bit else os.path.exists(path) and os.remove(path)
def look(self):
    return sum(f"{NAME}-own" in path for seen in self.seen for path in glob.glob(seen))
def close(self):
    self.send(0)
    os.rmdir(self.own)
""",
    "key in a keyring": """
def __init__(self):
    self.add, self.control = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
def send(self, bit):
    name = ctypes.create_string_buffer(NAME.encode())
    if bit:
        called(libc.syscall(self.add, b"user", name, b"x", 1, -4))
    else:
        key = called(libc.syscall(self.control, 10, -4, b"user", name, 0))
        called(libc.syscall(self.control, 9, key, -4))
def look(self):
    return libc.syscall(self.control, 10, -4, b"user", NAME.encode(), 0) > 0
def close(self):
    self.send(0)
""",
    "number of processes of the machine": """
def __init__(self):
    self.kept = []
def send(self, bit):
    import threading
    if bit:
        self.event = threading.Event()
        for _ in range(20):
            threading.Thread(target=self.event.wait, daemon=True).start()
    elif hasattr(self, "event"):
        self.event.set()
def look(self):
    told = ctypes.create_string_buffer(512)
    called(libc.sysinfo(told))
    return struct.unpack_from("H", told, 80)[0]
def close(self):
    self.send(0)
""",
    "room on a disk": """
def __init__(self):
    self.place = tempfile.mkdtemp()
def send(self, bit):
    with open(f"{self.place}/big", "wb") as file:
        file.write(bytes(2**22 if bit else 0))
def look(self):
    return os.statvfs(os.path.dirname(SHARED)).f_bfree
def close(self):
    os.remove(f"{self.place}/big")
    os.rmdir(self.place)
""",
}


PLAY = """
def play(role, start, slot_s, bits):
    channels, seen = {}, {}
    for name, kind in KINDS.items():
        try:
            channels[name], seen[name] = kind(), []
        except OSError:
            pass
    for slot, bit in enumerate(bits):
        late = 0 if role == "sender" else 0.6
        time.sleep(max(0, start + (slot + late) * slot_s - time.time()))
        for name, channel in channels.items():
            try:
                seen[name].append(channel.send(bit) if role == "sender" else channel.look())
            except OSError:
                seen[name].append(-1)
    for channel in channels.values():
        try:
            getattr(channel, "close", int)()
        except OSError:
            pass
    return json.dumps(seen)
"""
# Takes a role, when to start, seconds for a slot and the bits; returns what it saw, as JSON.
Play = Callable[[str, float, float, list[int]], str]


def write_program(mark: str, port: int) -> str:
    """Return the module that both run; those of one `mark` and `port` meet."""
    kinds = [source.strip().replace("\n", "\n    ") for source in CHANNELS.values()]
    classes = [f"class Kind{number}:\n    {kind}\n" for number, kind in enumerate(kinds)]
    names = [f"{name!r}: Kind{number}" for number, name in enumerate(CHANNELS)]
    table = f"KINDS = {{{', '.join(names)}}}\n"
    filled = (PRELUDE + "".join(classes)) % {"mark": mark, "port": port}
    return f"import json\n{filled}{table}{PLAY}"


def play_in(server: ServerProcess, program: str) -> Play:
    """Return how to play a role in the sandbox."""

    def play(*told: object) -> str:
        asked = {"kind": "io", "files": {"talk.py": program}}
        report = server.run(asked | {"calls": [["talk:play", told]]}, wall_s=120)
        line = json.loads(report["output"])
        return str(ast.literal_eval(line["value"])) if "value" in line else line["error"]

    return play


def play_outside(program: str) -> Play:
    """Return how to play a role as any process of this user."""

    def play(*told: object) -> str:
        line = f"print(play(*{told!r}))"
        done = subprocess.run(
            [sys.executable, "-c", f"{program}\n{line}"], capture_output=True, text=True
        )
        return done.stdout or done.stderr

    return play


def list_moved(play: Play, *, slower: float = 1.0) -> dict[str, int]:
    """Return the channels that moved bits, and in how many slots the bit was told right."""
    bits = random.Random(0).sample([0, 1] * (NUM_SLOTS // 2), NUM_SLOTS)
    start, slot_s = time.time() + START_S * slower, SLOT_S * slower
    with ThreadPoolExecutor(2) as pool:
        pool.submit(play, "sender", start, slot_s, bits)
        told = play("receiver", start, slot_s, bits)
    seen = json.loads(told)
    right = {name: count_right(values, bits) for name, values in seen.items()}
    return {name: count for name, count in right.items() if count >= LEAST_RIGHT}


def list_moved_outside(program: str) -> dict[str, int]:
    """Return what moves bits without a sandbox, at first try or slower: a busy machine is late."""
    moved: dict[str, int] = {}
    for slower in (1, 2, 4, 8):
        moved |= list_moved(play_outside(program), slower=slower)
        if len(moved) >= LEAST_OUTSIDE:
            break
    return moved


def count_right(values: list[int], bits: list[int]) -> int:
    """Return how many bits the best threshold tells from what was seen."""
    hits = [sum((value > least) == bit for value, bit in zip(values, bits, strict=True))
            for least in set(values)]  # fmt: skip
    return max(max(hit, len(bits) - hit) for hit in hits)
