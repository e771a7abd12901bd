"""Takes memory until the machine swaps."""

GOES_FOR = "bomb"
DIES = True
SOURCE = """
import resource

def attack(facts):
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if not 0 < limit <= 2**31:
        return "succeeded: no limit, so the bomb was not set off"
    kept = []
    count = limit // 2**27 + 1
    return tried(whole=lambda: bytearray(limit), mapped=lambda: mmap.mmap(-1, limit),
                 pieces=lambda: [kept.append(mmap.mmap(-1, 2**27)) for _ in range(count)])
"""
