"""A little project whose tests call it in every way that a recorder has to know."""

SHOP = '''"""Prices and carts."""

import enum
import functools
import random
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field

Line = namedtuple("Line", "name price")


class Kind(enum.Enum):
    FOOD = 1
    TOOL = 2


class CartError(ValueError):
    """Nothing in it."""


@dataclass
class Item:
    """A thing with a price."""

    name: str
    price: float = 1.0
    tags: list = field(default_factory=list)

    def label(self, width=10):
        return self.name[:width].ljust(width)


class Cart:
    """Holds items."""

    limit = 10

    def __init__(self, items=()):
        self._items = list(items)
        self.name = "cart"

    @classmethod
    def of(cls, *names):
        return cls([Item(name) for name in names])

    @staticmethod
    def tax(price, rate=0.5):
        return price * rate

    @property
    def total(self):
        return sum(item.price for item in self._items)

    @total.setter
    def total(self, value):
        for item in self._items:
            item.price = value / len(self._items)

    @functools.cached_property
    def names(self):
        return [item.name for item in self._items]

    def add(self, item):
        self._items.append(item)
        return self

    def first(self):
        if not self._items:
            raise CartError("empty")
        return self._items[0]

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __eq__(self, other):
        return isinstance(other, Cart) and self._items == other._items

    def __iter__(self):
        for item in self._items:
            yield item.name


class Bag(OrderedDict):
    """Counts names."""

    def count(self, name):
        self[name] = self.get(name, 0) + 1


def countdown(start):
    while start:
        yield start
        start -= 1


def append_all(target, values):
    target.extend(values)


def apply(function, values):
    return [function(value) for value in values]


def adder(step):
    def add(value):
        return value + step

    return add


@functools.lru_cache
def square(value):
    return value * value


def kind_of(name):
    return Kind.TOOL if name == "saw" else Kind.FOOD


def line_of(item):
    return Line(item.name, item.price)


def draw():
    return random.random()


def address(value):
    return id(value)


def broken(text, **more):
    return text + "\\udc80", more


async def wait_for(value):
    return value + 1


def ratio(part, whole):
    return part / whole
'''
TESTS = """import asyncio
import unittest
from decimal import Decimal

import pytest
from shop import *
from shop import adder, append_all, broken, wait_for


def double(value):
    return value * 2


@pytest.fixture
def cart():
    return Cart([Item("ham", 2.0), Item("saw", 3.0)])


def test_total(cart):
    assert cart.total == 5.0
    cart.total = 8
    assert cart.total == 8.0


def test_names(cart):
    assert cart.names == ["ham", "saw"]
    assert list(cart) == ["ham", "saw"]


def test_first(cart):
    assert cart.first().label(4) == "ham "
    with pytest.raises(CartError):
        Cart().first()


def test_container(cart):
    assert len(cart.add(Item("pie"))) == 3
    assert cart[2].price == 1.0
    assert cart != Cart()
    assert Cart() == Cart()


def test_made_otherwise():
    assert len(Cart.of("a", "b")) == 2
    assert Cart.tax(4) == 2.0


def test_bag():
    bag = Bag()
    bag.count("a")
    assert bag == {"a": 1}


def test_functions():
    assert list(countdown(3)) == [3, 2, 1]
    found = []
    append_all(found, (1, 2))
    assert found == [1, 2]
    assert apply(double, [1, 2]) == [2, 4]
    assert apply(lambda value: -value, [1]) == [-1]
    assert apply(str.upper, ["a"]) == ["A"]
    assert adder(2)(3) == 5
    assert broken("\\udcbf") == ("\\udcbf\\udc80", {})
    assert broken("a", **{"\\udcbf": 1})
    assert square(3) == 9
    assert kind_of("saw") is Kind.TOOL
    assert line_of(Item("ham")).price == 1.0
    assert asyncio.run(wait_for(1)) == 2
    assert ratio(Decimal(1), Decimal(4)) == Decimal("0.25")
    assert 0 <= draw() < 1
    assert address(3)


class Own(Cart):
    pass


class TestCase(unittest.TestCase):
    def setUp(self):
        self.own = Own([Item("a")])

    def test_own(self):
        self.assertEqual(self.own.total, 1.0)
        self.assertRaises(ZeroDivisionError, ratio, 1, 0)
"""
