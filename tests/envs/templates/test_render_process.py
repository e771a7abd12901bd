import os
import threading

import pytest

from envs.errors import UserError
from envs.templates.render_process import RenderError, RenderProcess

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def process():
    return RenderProcess()


def test_a_template_that_never_ends_is_ended_and_the_next_one_rendered(process):
    with pytest.raises(UserError, match="computes for more than 2 s") as caught:
        process.render(LOOPS, {})
    assert "model.chat_template" in caught.value.remedy
    assert process.render("{{ x }}", {"x": "next"}) == "next"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**10 }}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}",
        "{{ ('x' * 1000) | replace('x', 'x' * 9000) }}",
        "x" * (2**20 + 1),
    ],
    ids=["folded when compiled", "doubled", "long", "template"],
)
def test_memory_and_text_are_bounded(process, template):
    with pytest.raises(UserError, match="wants more than a template may"):
        process.render(template, {})


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "RecursionError"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
        ("{{ " + "9" * 5000 + " }}", "4300 digits"),
        ("{{ raise_exception('no tools') }}", "no tools"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ ''.__class__ }}{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ namespace(_a=1) }}", "_a"),
        ("{{ ", "unexpected"),
    ],
    ids=str,
)
def test_what_a_template_raises_is_said(process, template, said):
    with pytest.raises(RenderError, match=said):
        process.render(template, {})


def test_what_jinja_imports_late_is_there_although_no_file_can_be_opened(process):
    template = (
        "{{ x | pprint }}{{ '<b>&lt;' | striptags }}{{ 'a b' | wordwrap(1) }}"
        "{{ lipsum(n=1) | length > 9 }}{{ strftime_now('%Y') | length }}{{ '\\N{BULLET}' }}"
    )
    assert process.render(template, {"x": [1]}) == "[1]<a\nbTrue4\u2022"


def test_what_a_template_takes_is_said_without_computing_it(process):
    facts = process.describe("{% set b = a %}{{ b }}{{ strftime_now('%Y') }}{{ 10**10**3 }}")
    assert (facts.names, facts.date_formats, facts.unclear) == ({"a"}, ("%Y",), 0)
    assert process.describe("\n{{ strftime_now(a) }}").unclear == 2


def test_threads_and_a_fork_get_their_own_answers(process):
    found = {}

    def ask(number):
        found[number] = {process.render("{{ x }}", {"x": number}) for _ in range(50)}

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {str(number)} for number in range(4)}
    child = os.fork()
    if child == 0:
        os._exit(process.render("{{ x }}", {"x": 7}) != "7")
    assert process.render("{{ x }}", {"x": 8}) == "8"
    assert os.waitpid(child, 0)[1] == 0
