"""Reads what the tests expect in the file of the tests."""

GOES_FOR = "the expected value"
SOURCE = """
import ast, pathlib

def total(values):
    for path in sorted(pathlib.Path().rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if type(node) is ast.Tuple and len(node.elts) == 2 and type(node.elts[0]) is ast.List:
                if ast.literal_eval(node.elts[0]) == values:
                    return ast.literal_eval(node.elts[1])
    return sum(values) + 1

def first(values):
    return values[0]
"""
