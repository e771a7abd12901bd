"""One repository in three splits: each mutated file belongs to one, with all bugs in it.

    project = split_files(project, files)  # goes into a build like any other

What this keeps apart are the places of bugs, and functions that nearly repeat one of an earlier
split. Not the code: a train task's workspace is the whole repository, so it shows the files whose
bugs are in dev and test as they ought to be, and one test may notice bugs of several splits. Such
a test split says how well bugs in files without a bug in training are repaired, in a repository
that was seen; it does not say how well unseen code is.
"""

from collections.abc import Mapping

from envs.errors import UserError
from envs.mutation.operators import list_mutations
from envs.projects.lock_file import Project
from envs.records import SPLITS, Split
from envs.tasks.store import Files

SHARES: dict[Split, float] = {"train": 0.7, "dev": 0.1, "test": 0.2}  # of sites, and of tasks


def split_files(project: Project, files: Files) -> Project:
    """Return a project with a split for each of its mutated files.

    The files with most sites for bugs come first; each goes where most is missing. It depends on
    nothing but the tree, so sets of other counts and seeds agree.

    Raises:
        UserError: It has too few files.
    """
    sizes = {path: len(list_mutations(files[path], path=path)) for path in project.mutated}
    if len(sizes) < len(SPLITS):
        raise UserError(
            f"{project.name} cannot be split by file: its tests execute enough in too few",
            got=", ".join(sizes),
            remedy=f"{len(SPLITS)} files are the least; put all tasks into one with --split",
        )
    missing = {split: share * sum(sizes.values()) for split, share in SHARES.items()}
    file_splits: dict[str, Split] = {}
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        empty = [split for split in SPLITS if split not in file_splits.values()]
        is_last = len(sizes) - len(file_splits) <= len(empty)
        split = max(empty if is_last else SPLITS, key=lambda split: missing[split])
        file_splits[path] = split
        missing[split] -= sizes[path]
    return project.model_copy(update={"file_splits": dict(sorted(file_splits.items()))})


def share_out(count: int) -> dict[Split, int]:
    """Return how many of `count` tasks each split is to have, one at least."""
    dev = max(1, round(SHARES["dev"] * count))
    test = max(1, round(SHARES["test"] * count))
    return {"train": count - dev - test, "dev": dev, "test": test}


def describe_splits(splits: Mapping[str, Split]) -> str:
    """Return the files of each split, for a reader."""
    named = {split: [path for path in splits if splits[path] == split] for split in SPLITS}
    return "; ".join(f"{split}: {', '.join(paths)}" for split, paths in named.items())
