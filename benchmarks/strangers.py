"""Opens 2,000 hostile task sets, files of instances and folders of models; counts what they did.

    python benchmarks/strangers.py --out benchmarks/results/strangers.md

About two minutes of one CPU core. Each is a good one with one to four changes, drawn by its number
(`tests/strangers/`), and is opened as a command would open it, in a process that is watched: no
program may run, nothing be read or written elsewhere, no error be other than the user's, nothing
take over 5 s of computing. `--keep FILE` notes each case as it ends; a second call goes on where
the first ended. The exit code is 1 if a case went wrong. Not covered: what runs in the sandbox
after it was taken (`benchmarks/attacks.py`).
"""

import argparse
import platform
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.files import append_row, read_rows
from tests.strangers.corpus import KINDS, open_corpus
from tests.strangers.watch import LIMIT_S, Ending

NUMBERS = {"sets": 800, "instances": 600, "models": 600}
_GOOD = ("refused", "taken")


def main() -> int:
    """Print the table; returns 1 if a case went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="file for the table, as Markdown")
    parser.add_argument("--keep", type=Path, help="file of JSONL for each case, to go on with")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases, the first")
    flags = parser.parse_args()
    rows = read_rows(flags.keep) if flags.keep else []
    rows += try_rest({(row["kind"], row["number"]) for row in rows}, flags.keep, flags.share)
    text = "\n".join([*header(), *table(rows), ""])
    print(text)
    if flags.out is not None:
        flags.out.write_text(text, encoding="utf-8")
    wrong = [row for row in rows if row["ending"] not in _GOOD]
    for row in wrong:
        print(f"\n{row['kind']} {row['number']} ({row['case']}) {row['ending']}: {row['told']}")
    return 1 if wrong else 0


def try_rest(done: set[tuple[str, int]], keep: Path | None, share: float) -> list[dict[str, Any]]:
    """Try the cases that were not tried yet."""
    rows = []
    with open_corpus() as corpus:
        for kind in KINDS:
            good = corpus.try_good(kind)
            assert good.ending == "taken", good
            for number in range(int(NUMBERS[kind] * share)):
                if (kind, number) in done:
                    continue
                case, found = corpus.try_case(kind, number)
                row = {"kind": kind, "number": number, "case": case, **vars(found)}
                rows.append(row)
                if keep is not None:
                    append_row(keep, row)
                if number % 50 == 49:
                    print(f"{kind}: {number + 1} of {NUMBERS[kind]}", file=sys.stderr)
    return rows


def header() -> list[str]:
    """Return the title with versions."""
    return [
        "# What strangers hand over",
        "",
        f"`python benchmarks/strangers.py`; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("transformers", "peft", "jinja2"))
        + f". Ran: a program; read, wrote: elsewhere; slow: over {LIMIT_S:g} s of CPU, or ended.",
        "",
    ]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return how the cases of each kind ended, and the most that one computed."""
    endings = get_args(Ending)
    lines = [f"| kind | cases | {' | '.join(endings)} | most CPU, s |"]
    lines.append("|---" * (len(endings) + 3) + "|")
    for kind in KINDS:
        found = [row for row in rows if row["kind"] == kind]
        counts = Counter(row["ending"] for row in found)
        cells = " | ".join(str(counts[ending]) for ending in endings)
        most = max((row["cpu_s"] for row in found), default=0)
        lines.append(f"| {kind} | {len(found)} | {cells} | {most:.1f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
