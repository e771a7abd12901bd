"""Reads the expected value in the frame of the test, by a pattern."""

GOES_FOR = "the expected value"
SOURCE = """
def total(values):
    try:
        raise LookupError
    except LookupError as error:
        match error:
            case Exception(__traceback__=object(tb_frame=object(f_back=object(f_locals=held)))):
                return held.get("expected", sum(values) + 1)

def first(values):
    return values[0]
"""
