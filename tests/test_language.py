"""The mechanical rules of language: docstrings, comments, messages and other texts avoid phrases that slow a reader down."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SHARED_OUT = (
    "accumulation|batch|bundle|case|class|coder|coefficient|column|core|feature|file|firing|fold|format|fork|key|message|"
    "name|output|partition|pass|poll|process|range|refresh|round|row|run|shard|slice|split|thread|topic|type|value|variant|"
    "version|window|worker"
)
"""Nouns that something is shared out by: "one per window". Of units of time, "twice a day" is good English."""

RULES: dict[str, tuple[str, str, str]] = {
    "lest": (r"\blest\b", "so that … not", "The row is kept, lest it be lost."),
    "anew": (r"\banew\b", "again, from scratch, recreated", "The topic was made anew."),
    "go on from": (
        r"\b(go|goes|going|gone|went) on (from|where|with)\b",
        "resume from, continue",
        "Training goes on from version 3.",
    ),
    "read well": (r"\breads? well\b", "is readable", "The newest version that reads well."),
    "stand still": (
        r"\b(stands?|standing|stood) still\b",
        "is idle, is constant, stops improving",
        "One that stands\n    still is left out.",
    ),
    "told": (
        r"\b(is|are|was|were|be|been) told\b(?! apart)|\btold (of|as)\b",
        "is announced, is reported",
        "The topic is told of each version.",
    ),
    "distributive article": (
        rf"\b(one|twice|each) an? ({SHARED_OUT})\b|\bonce a (process|bundle|window)\b(?! (has|is))"
        rf"|\b(one|two) (?!(of|in|for|to|is|as|at|by|than|and|or)\b)[`\w]+ an? ({SHARED_OUT})\b",
        "per",
        "Refreshes, one a window.",
    ),
    "seconds": (r"(^|: |\()s (a|an|that) [a-z]+", "seconds that …, s per …", "slack: s a row may lie behind."),
    "give": (
        r"(^|; |\. )(Give|give|gives) (the|an?|it|its|how|what|where|whether)\b",
        "return, yield",
        "Cut the text; give its pieces.",
    ),
    "tell whether": (r"(^|; |\. )(Tell|tell) (whether|how|what)\b", "return whether", "Tell whether a row is late."),
    "for ever": (r"\bfor ever\b", "forever", "A job that runs for ever."),
    "build the step": (r"^Build the steps?\.$", "say what is built", "Build the steps."),
    "put together": (
        r"\b(put|puts) (together|(runs|parts|partials|sums|means|learners) together)\b",
        "merge, concatenate",
        "How runs are put together.",
    ),
}
"""Rule → pattern, what to write instead, and a text that breaks it."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield each string literal and each block of comments with its first line, white space squeezed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != block[-1][0] + 1:
            yield block[0][0], " ".join(text for _, text in block)
            block = []
        block.append((line, token.string.lstrip("# ")))
    if block:
        yield block[0][0], " ".join(text for _, text in block)


def broken(source: str) -> list[str]:
    """Return what breaks a rule in a module's source: line, rule, what to write instead, and the phrase."""
    found = []
    for line, text in texts(source):
        squeezed = re.sub(r"\s+", " ", text)
        for name, (pattern, better, _) in RULES.items():
            found += [f"line {line}: {name} (write: {better}): “{hit[0]}”" for hit in re.finditer(pattern, squeezed)]
    return found


def modules() -> list[str]:
    paths = (path for room in ("beam_ml", "pipelines") for path in (ROOT / room).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "place",
    [
        '"""{}"""\n',
        'def f():\n    """{}"""\n',
        "x = 1  # {}\n",
        '"""Good."""\nx = 1\n"""{}"""\n',
        'def f(x):\n    message = f"""{}{{x}}"""\n    raise ValueError(message)\n',
    ],
    ids=["module", "function", "comment", "attribute", "message"],
)
def test_a_planted_phrase_is_found(rule: str, place: str) -> None:
    planted = RULES[rule][2]
    if "#" in place:
        planted = re.sub(r"\n\s*", "\n# ", planted)
    assert any(f": {rule} (" in one for one in broken(place.format(planted)))


@pytest.mark.parametrize(
    "text",
    [
        "Twice a day a job asks for one a moment ago made.",
        "Training goes on, and resumes from the newest readable version.",
        "Return the text; it gives way to nothing. A still picture stands.",
        "s per row; 3 s an hour ago",
        "One accumulation per bundle and window, one window at a time.",
    ],
)
def test_plain_english_passes(text: str) -> None:
    assert broken(f'"""{text}"""') == []


def test_no_phrase_that_slows_a_reader_down() -> None:
    found = {name: broken((ROOT / name).read_text(encoding="utf-8")) for name in modules()}
    assert {name: lines for name, lines in found.items() if lines} == {}
