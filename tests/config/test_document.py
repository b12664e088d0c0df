"""Bytes become one tree or an error with file and line; YAML says what the same JSON says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resilient import DocumentError
from resilient.config.document import DEEPEST, MOST_YAML, Document

from .samples import JSON, YAML, document


def tried(**files: str | bytes) -> Document | DocumentError:
    try:
        return document(**files)
    except DocumentError as error:
        return error


def refused(**files: str | bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        document(**files)
    return caught.value


def test_both_forms_of_the_sample_are_the_same_tree() -> None:
    assert document(a_yaml=YAML).tree == document(a_json=JSON).tree == json.loads(JSON)


@pytest.mark.parametrize("text", [YAML, JSON], ids=["yaml", "json"])
def test_no_beginning_of_a_document_is_one(text: str) -> None:
    name = "a_yaml" if text is YAML else "a_json"
    whole = text.rstrip()
    for end in range(len(whole)):
        assert refused(**{name: whole[:end].encode()}).file == name.replace("_", ".")
    document(**{name: whole})


@pytest.mark.parametrize("text", [YAML, JSON], ids=["yaml", "json"])
def test_every_key_is_found_at_its_line(text: str) -> None:
    found = document(**{"a_yaml" if text is YAML else "a_json": text})
    lines = text.splitlines()

    def walk(tree: Any, at: tuple[str, ...]) -> int:
        if not isinstance(tree, dict):
            return 0
        count = 0
        for key, value in tree.items():
            line = found.sources.place((*at, key))[1]
            assert line is not None
            assert key in lines[line - 1]
            count += 1 + walk(value, (*at, key))
        return count

    assert walk(found.tree, ()) > 30


def test_a_place_that_is_not_there_is_told_by_what_it_would_stand_in() -> None:
    text = '{"a": {\n"b": [1,\n 2, {"c": 3}\n]}}'
    found = document(a_json=text)
    assert found.sources.place(("a", "b", 1)) == ("a.json", 3)
    assert found.sources.place(("a", "b", 2, "c")) == ("a.json", 3)
    assert found.sources.place(("a", "b", 7, "d")) == ("a.json", 2)
    assert found.sources.place(("x",)) == ("a.json", 1)
    listed = document(a_yaml="a:\n- 1\n- x: 2\n  y: 3\n...\n")
    assert [listed.sources.place(("a", n))[1] for n in (0, 1)] == [2, 3]
    assert listed.sources.place(("a", 1, "y")) == ("a.yaml", 4)


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.dictionaries(st.text(), trees, max_size=4))
def test_what_json_says_is_read_as_json_reads_it(tree: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        text = json.dumps(tree, ensure_ascii=ascii_only, indent=1)
        try:
            content = text.encode()
        except UnicodeEncodeError:
            content = b'{"a": "' + b"\xed\xa0\x80" + b'"}'
        found = tried(a_json=content)
        if isinstance(found, Document):
            assert found.tree == tree
        else:
            assert found.reason == "encoding"
            assert re.search(r"[\ud800-\udfff]", json.dumps(tree, ensure_ascii=False))


WORDS = "on off yes NO y 12:30:00 2026-01-31 1_000 1e3 -.5 +7 0 -0 0.50 7. 450/second = 1.2.3 1e e3 --1 NULL True ~"
words = st.sampled_from([*WORDS.split(), "a b"])


@given(st.dictionaries(st.text("abcdefgh", min_size=1), words, min_size=1, max_size=5))
def test_plain_words_mean_what_yaml_1_2_says(given_: dict[str, str]) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in given_.items()) + "...\n"
    known: dict[str, Any] = {"1e3": 1000.0, "-.5": -0.5, "+7": 7, "0": 0, "-0": 0, "0.50": 0.5, "7.": 7.0}
    known.update({"NULL": None, "~": None, "True": True})
    tree = document(a_yaml=text).tree
    assert tree == {key: known.get(value, value) for key, value in given_.items()}
    assert {k: type(v) for k, v in tree.items()} == {k: type(known.get(v, v)) for k, v in given_.items()}


def test_keys_are_texts_whatever_they_look_like() -> None:
    text = "on: 1\n1: 2\ntrue: 3\n~: 4\n'': 5\n'<<': 6\n...\n"
    assert document(a_yaml=text).tree == {"on": 1, "1": 2, "true": 3, "~": 4, "": 5, "<<": 6}
    assert document(a_yml='"10": "010"\n...').tree == {"10": "010"}, "in quotes all is text"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: &x 2\n...", 2, "an anchor or alias"),
        ("a: &x 1\nb: *x\n...", 1, "an anchor or alias"),
        ("a: 1\nb: !!str 2\n...", 2, "a tag"),
        ("a: 1\nb: !mine {}\n...", 2, "a tag"),
        ("a: {}\nb:\n  <<: {c: 1}\n...", 3, "a merge key"),
        ("a: 1\nb: 2\na: 3\n...", 3, "stands here twice"),
        ("a: 010\n...", 1, "is read in two ways"),
        ("a: 0x1F\n...", 1, "is read in two ways"),
        ("a: 0o17\n...", 1, "is read in two ways"),
        ("a: .inf\n...", 1, "is read in two ways"),
        ("a: .NaN\n...", 1, "is read in two ways"),
        ("a: 1e999\n...", 1, "more than a number can be"),
        (f"a: {'9' * 5_000}\n...", 1, "that many digits"),
        ("a: 1\n---\nb: 2\n...", 2, "does not end with a line"),
        ("a: 1\n...\n---\nb: 2\n...", 3, "a second document"),
        ("%YAML 1.1\n---\na: 1\n...", 1, "a directive"),
        ("? [a, b]\n: 1\n...", 1, "a key must be a text"),
        ("?\n: 1\n...", 1, "a key must be a text"),
        ("? &x a\n: 1\n...", 1, "a key with an anchor or a tag"),
        ("a: [1\nb: 2\n...", 2, "is no YAML"),
        ("a: 'x\n...", None, "is no YAML"),
        ("a: é\nb: \x07\n...", 2, "is no YAML"),
        ("a:\n\t- 1\n...", 2, "is no YAML"),
        ("", None, "is empty"),
        ("# nothing\n", None, "is empty"),
        ("[]\n...", 1, "must be a mapping"),
        ("null\n...", 1, "must be a mapping"),
    ],
)
def test_yaml_that_says_more_than_json_is_refused(text: str, line: int | None, said: str) -> None:
    error = refused(a_yaml=text)
    assert said in str(error)
    assert error.file == "a.yaml"
    if line is not None:
        assert error.line == line


@pytest.mark.parametrize(
    ("text", "line", "reason", "said"),
    [
        ("", 1, "syntax", "is no JSON"),
        ("null", 1, "structure", "must be a mapping"),
        ("[]", 1, "structure", "must be a mapping"),
        ('{"a": 1,\n "b": NaN}', 2, "syntax", "is no number that JSON has"),
        ('{"a": -Infinity}', 1, "syntax", "is no number that JSON has"),
        ('{"a": 1e999}', 1, "syntax", "is no number that JSON has"),
        (f'{{"a": {"9" * 5_000}}}', 1, "syntax", "is no JSON"),
        ('{"a": 1\n,}', 2, "syntax", "is no JSON"),
        ('{"a": 1} 2', 1, "syntax", "is no JSON"),
        ('{"a": "\\ud800"}', None, "encoding", "surrogate"),
        ('{"a": "\x00"}', 1, "syntax", "is no JSON"),
        (b'{"a": 1,\n"b": "\xff"}', 2, "encoding", "is not UTF-8"),
        ('{"a": {"b": [1, {"c": 1,\n"d": 2,\n"c": 3}]}}', 3, "syntax", "a.b.1.c: stands here twice"),
        ('{"a\\u0062": 1,\n "ab": 2}', 2, "syntax", "ab: stands here twice"),
    ],
)
def test_json_that_is_wrong_is_refused(text: str | bytes, line: int | None, reason: str, said: str) -> None:
    error = refused(a_json=text)
    assert said in str(error)
    assert (error.line, error.reason) == (line, reason)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 10_000, 200_000])
def test_nesting_has_a_limit(depth: int) -> None:
    for opened, closed, inner in (("[", "]", ""), ('{"a":', "}", "1")):
        text = f'{{"a": {opened * depth}{inner}{closed * depth}}}'
        assert refused(a_json=text).reason == "size"
    if depth < 20_000:
        assert refused(a_yaml=f"a: {'[' * depth}{']' * depth}\n...").reason in ("size", "syntax")
    fits = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert document(a_json=f'{{"a": {fits}}}').tree == document(b_yaml=f"a: {fits}\n...").tree


def test_a_yaml_file_has_a_limit_in_bytes() -> None:
    filler = "# ü\n"
    assert document(a_yaml="a: 1\n" + filler * (MOST_YAML // 6) + "...\n").tree == {"a": 1}
    error = refused(a_yaml="a: 1\n" + filler * (MOST_YAML // 5) + "...\n")
    assert error.reason == "size"
    assert "run `resilient build`" in str(error)


def test_a_bom_and_the_line_ends_of_other_systems_are_fine() -> None:
    assert document(a_json=b'\xef\xbb\xbf{"a":\r\n 1}').tree == {"a": 1}
    found = document(a_yaml=b"\xef\xbb\xbfa: 1\r\nb: 2\r\n...\r\n")
    assert found.tree == {"a": 1, "b": 2}
    assert found.sources.place(("b",)) == ("a.yaml", 2)


def test_several_files_are_one_document() -> None:
    found = document(
        a_json='{"r": {"t": {"pay": {"x": 1}}}}',
        b_yaml="r: {t: {pay: {y: 2},\n ship: {x: 3}}}\n...",
        c_json="{}",
    )
    assert found.tree == {"r": {"t": {"pay": {"x": 1, "y": 2}, "ship": {"x": 3}}}}
    assert found.sources.place(("r", "t", "pay", "x")) == ("a.json", 1)
    assert found.sources.place(("r", "t", "ship", "x")) == ("b.yaml", 2)
    assert found.sources.place(("r", "t", "pay", "z"))[0] in ("a.json", "b.yaml")


@pytest.mark.parametrize(
    ("second", "pointer"),
    [('{"r": {\n"x": 1}}', ("r", "x")), ('{\n"r": 1}', ("r",)), ('{"r": {\n"t": 5}}', ("r", "t"))],
)
def test_what_two_files_say_is_refused_even_if_they_agree(second: str, pointer: tuple[str, ...]) -> None:
    error = refused(a_json='{"r": {"x": 1, "t": {"y": 2}}}', b_json=second)
    assert (error.file, error.line, error.pointer) == ("b.json", 2, pointer)
    assert "stands in a.json too" in str(error)


@given(st.text() | st.binary())
def test_any_bytes_are_a_document_or_refused(content: str | bytes) -> None:
    if isinstance(content, str):
        content = content.encode("utf-8", "replace")
    for found in (tried(a_json=content), tried(a_yaml=content)):
        assert isinstance(found, Document) or found.file


@given(st.integers(0, len(YAML) - 1), st.text(max_size=3))
def test_a_sample_with_a_mistake_is_a_document_or_refused(at: int, typo: str) -> None:
    found = tried(a_yaml=(YAML[:at] + typo + YAML[at + 1 :]).encode("utf-8", "replace"))
    assert isinstance(found, Document) or found.file == "a.yaml"


def test_without_the_c_parser_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = document(a_yaml=YAML).tree
    monkeypatch.delattr(yaml, "CBaseLoader")
    assert document(a_yaml=YAML).tree == whole
    assert refused(a_yaml="a: &x 1\n...").line == 1
