"""Errors by whose they are: the user's, or the infrastructure's.

A bad rollout is data and raises nothing.
"""


class UserError(Exception):
    """Something only the user can mend; the command ends with exit code 2 and this one line.

    Args:
        what: What is wrong, as a phrase.
        got: What was found ('' if there is nothing to show).
        remedy: The command or change that mends it.
    """

    def __init__(self, what: str, *, got: str = "", remedy: str) -> None:
        self.what, self.got, self.remedy = what, got, remedy
        found = f" (got: {got})" if got else ""
        super().__init__(f"{what}{found}. Remedy: {remedy}")


class InfrastructureError(Exception):
    """The sandbox or the machine failed, not the candidate: retried, then marked unscorable."""
