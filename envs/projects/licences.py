"""Recognises permissive licences by their text, whatever a project's metadata say.

    recognise_licence(text) -> "BSD-3-Clause"

A text counts as a licence if it holds the sentences that make it that licence and not many more
words than it has: conditions that someone added are noticed by their length. Not legal advice.
"""

import re
from dataclasses import dataclass

LICENCE_FILE = re.compile(r"(un)?(licen[cs]e|copying|copyright)([-._][\w.-]*)?", re.IGNORECASE)
# Words that grant or ask for something else, wherever they stand.
_FORBIDDEN = (
    "gnu general public",
    "gnu lesser general",
    "gnu library general",
    "gnu affero",
    "mozilla public licen",
    "eclipse public licen",
    "commons clause",
    "creative commons",
    "noncommercial",
    "non-commercial",
    "all advertising materials",
)
_METADATA = re.compile(
    r"\b(A?GPL|LGPL|MPL|EPL|EUPL|CDDL)|General Public|Mozilla|Proprietary|Other/Proprietary", re.I
)


@dataclass(frozen=True)
class _Licence:
    """A licence: sentences in this order, and the words from the first one to its end."""

    name: str
    sentences: tuple[str, ...]
    num_words: int


_BSD = (
    "redistribution and use in source and binary forms",
    "redistributions of source code must retain",
    "redistributions in binary form must reproduce",
)
_ISC = "permission to use, copy, modify, and{}distribute this software for any purpose with or"
# Words were counted in the texts of https://spdx.org/licenses.
_LICENCES = (
    _Licence(
        "MIT",
        (
            "permission is hereby granted, free of charge, to any person obtaining a copy",
            "without restriction",
            "the above copyright notice and this permission notice",
            "is provided as is",
        ),
        165,
    ),
    _Licence("BSD-3-Clause", (*_BSD, "be used to endorse or promote", "as is"), 215),
    _Licence("BSD-2-Clause", (*_BSD, "as is"), 185),
    _Licence("ISC", (_ISC.format("/or "), "is provided as is"), 120),
    _Licence("ISC", (_ISC.format(" "), "is provided as is"), 120),
    _Licence(
        "Apache-2.0",
        (
            "apache license version 2.0, january 2004",
            "terms and conditions for use, reproduction, and distribution",
            "grant of copyright license",
            "grant of patent license",
        ),
        1_660,
    ),
    _Licence(  # the notice that its appendix asks for
        "Apache-2.0",
        (
            "licensed under the apache license, version 2.0",
            "you may obtain a copy of the license at",
            "see the license for the specific language governing permissions",
        ),
        80,
    ),
    _Licence(
        "PSF-2.0",
        (
            "python software foundation license version 2",
            "psf hereby grants licensee a nonexclusive, royalty-free, world-wide license",
        ),
        3_000,  # Python's own file, which tells the history and adds the older licences
    ),
)
_ADDED_WORDS = 40  # that a copy may have more: names of holders, contributors


def recognise_licence(text: str) -> str | None:
    """Return the SPDX name of the permissive licence that `text` is, or None."""
    plain = " ".join(re.sub(r"[\"'`*#=\u2018-\u201d]|\(c\)", "", text.lower()).split())
    plain = plain.replace("and /or", "and/or")
    if any(words in plain for words in _FORBIDDEN):
        return None
    for licence in _LICENCES:
        at = plain.find(licence.sentences[0])
        length = len(plain[at:].split())
        if at >= 0 and _in_order(licence.sentences, plain[at:]):
            return licence.name if length <= licence.num_words + _ADDED_WORDS else None
    return None


def find_other_licence(metadata: str) -> str | None:
    """Return what the head of a PKG-INFO says of a licence that is not permissive, or None."""
    head = metadata.partition("\n\n")[0]
    for line in head.split("\n"):
        if line.startswith(("License", "Classifier: License")) and _METADATA.search(line):
            return line
    return None


def _in_order(sentences: tuple[str, ...], text: str) -> bool:
    at = 0
    for sentence in sentences:
        at = text.find(sentence, at)
        if at < 0:
            return False
    return True
