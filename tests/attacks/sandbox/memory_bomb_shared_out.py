"""Takes little memory in each of many processes, which is much."""

GOES_FOR = "bomb"
DIES = True
SOURCE = """
import os, resource, time

def attack(facts):
    if not facts["groups"]:
        try:
            os.fork() or os._exit(0)
        except OSError:
            return "held: no processes"
        processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return "held: few processes" if processes <= 8 else "succeeded: no limit, so no bomb"
    reader, writer = os.pipe()
    size, most = 2**28, facts["memory"] // 2**28 + 1
    for number in range(most):
        if os.fork() == 0:
            block = mmap.mmap(-1, size)
            for at in range(0, size, 4096):
                block[at] = 1
            os.write(writer, b"x")
            time.sleep(60)
    os.close(writer)
    taken, end = 0, time.monotonic() + 20
    while taken < most and time.monotonic() < end:
        dead, _ = os.waitpid(-1, os.WNOHANG)
        if dead:
            return f"held: the kernel killed one of {most}"
        time.sleep(0.02)
        os.set_blocking(reader, False)
        try:
            taken += len(os.read(reader, 100))
        except BlockingIOError:
            pass
    return f"succeeded: {taken} x {size} bytes"
"""
