"""The README's commands on a machine that has only Python, make and a package index.

    sudo python benchmarks/clean_root.py --root ROOT --user someone \
        --place "/home/someone/my projects/tight rope" -- make test

Makes (once) a Debian with `debootstrap` in the folder ROOT: the base system, python3, python3-venv
and make; no bubblewrap, compiler or git. Copies the files that git tracks here to PLACE in it,
gives them to the user, and runs the command there as that user, in mount and pid namespaces of
their own whose root ROOT is (by pivot_root: in a chroot the kernel denies user namespaces). The
network is this machine's. Needs root and Linux; the exit code is the command's.

What lets pip reach its index here goes along: `--share FOLDER` is bound at the same place,
read-only; `--copy FILE` is copied; `--keep VARIABLE` of the environment is kept. Everything else is
as after a login.

Not covered: another kernel, another C library, another Python than Debian's.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PACKAGES = "python3,python3-venv,make,ca-certificates"
UID = 1000
# $1 root, $2 place, $3 uid; then shared folders up to `--`, then the command.
ENTER = """
set -e
root=$1 place=$2 uid=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for name in null zero full random urandom tty; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
while [ "$1" != -- ]; do
  mkdir -p "$root$1"
  mount --bind -o ro "$1" "$root$1"
  shift
done
shift
cd "$root"
pivot_root . mnt
cd /
umount -l /mnt
cd "$place"
# Not by exec: with another user id the kernel would forget to kill it with its parent.
setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
"""


def main(argv: list[str]) -> int:
    """Make the root, copy the checkout, run the command."""
    asked, command = parse(argv)
    root: Path = asked.root.resolve()
    if not (root / "etc").is_dir():
        line = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", asked.suite]
        subprocess.run([*line, str(root), asked.mirror], check=True)
    uid = 0 if asked.user == "root" else UID
    home = "/root" if uid == 0 else f"/home/{asked.user}"
    if uid and f"{asked.user}:" not in (root / "etc/passwd").read_text("utf-8"):
        line = ["useradd", "--create-home", "--uid", str(uid), asked.user]
        subprocess.run([*line, "--root", str(root)], check=True)
    for name in ("/etc/resolv.conf", "/etc/hosts", *asked.copy):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, target)
    if not asked.again:
        copy_checkout(root / asked.place.lstrip("/"), top=root / home.lstrip("/"), uid=uid)
    variables = {name: os.environ[name] for name in asked.keep if name in os.environ}
    variables |= {"HOME": home, "USER": asked.user, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    variables |= dict(each.split("=", 1) for each in asked.set)
    enter = ["sh", "-c", ENTER, "sh", str(root), asked.place, str(uid), *asked.share, "--"]
    spaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    inside = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run([*spaces, *enter, *inside, *command], check=False).returncode


def copy_checkout(target: Path, *, top: Path, uid: int) -> None:
    """Copy what git tracks here to `target`; what is there already (.venv) stays."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, check=True, capture_output=True)
    for name in os.fsdecode(listed.stdout).rstrip("\0").split("\0"):
        if (HERE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE / name, target / name)
    mine = [folder for folder in target.parents if folder != top and top in folder.parents]
    for path in [*mine, target, *target.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the command behind `--`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the clean root")
    parser.add_argument("--place", default="/tmp/checkout", help="of the checkout, in the root")
    parser.add_argument("--user", default="root", help="name; made in the root if need be")
    parser.add_argument("--suite", default="bookworm", help="Debian's release")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian")
    parser.add_argument("--share", action="append", default=[], help="folder to bind, read-only")
    parser.add_argument("--copy", action="append", default=[], help="file to copy")
    parser.add_argument("--keep", action="append", default=[], help="variable to keep")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE to set")
    parser.add_argument("--again", action="store_true", help="do not copy the checkout")
    options, command = argv, ["make", "test"]
    if "--" in argv:
        options, command = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    return parser.parse_args(options), command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
