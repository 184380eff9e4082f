"""A hundred recipes that mean no good, or nothing; harmless, since each must be refused in a second."""

from collections.abc import Iterator

HEAD = "version: 1\nseed: 7\nwatermark: none\n"
INPUT = "input: {uri: in}\n"
OUTPUT = "output: {uri: out}\n"
BRANCHES = "branches: [{name: b, operators: [{flip: {}}]}]\n"
PLAIN = HEAD + INPUT + OUTPUT + BRANCHES
BRANCH = "{name: b, operators: [{flip: {}}]}, "
ESCAPES = ("\\e[31m", "\\e]0;title\\a", "\\x9b2J", "\\u202e", "\\u2066", "\\r", "\\n", "\\0", "\\b\\b")


def hostile() -> Iterator[tuple[str, str | bytes]]:
    """Yield names and texts of recipes that `plan` must refuse."""
    yield from _bombs()
    yield from _values()
    yield from _conditions()
    yield from _escapes()
    yield from _no_yaml()


def _bombs() -> Iterator[tuple[str, str]]:
    laughs = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 10))
    known = "input: {uri: in, drop: &d0 [a, a, a, a, a, a, a, a, a, a]}\n"
    inner = "".join(f"    - {{flip: &f{n} {{a: *f{n - 1}, b: *f{n - 1}, c: *f{n - 1}}}}}\n" for n in range(1, 40))
    yield "aliases multiplied", f"k0: &k0 [x]\n{laughs}{PLAIN}"
    yield (
        "aliases multiplied through known keys",
        (f"{HEAD}{known}{OUTPUT}branches:\n- name: b\n  operators:\n    - {{flip: &f0 {{a: 1}}}}\n{inner}"),
    )
    yield (
        "a merge of merges",
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
    )
    yield "a value that holds itself", f"{PLAIN}resources: &r {{flip: *r}}\n"
    yield "a list that holds itself", f"{PLAIN}quality: {{gates: &g [*g]}}\n"
    for name, opening in {"lists": "[", "mappings": "{a: ", "dashes": "- ", "questions": "? "}.items():
        yield f"deep {name}", PLAIN + "x: " + opening * 20_000 if opening[0] in "[{" else opening * 20_000
    yield "deep by indentation", "".join(" " * n + "a:\n" for n in range(900))
    yield "deep below a known key", f"{PLAIN}quality: {{gates: {'[' * 40}{']' * 40}}}\n"
    yield "forty thousand keys", PLAIN + "".join(f"k{n}: {n}\n" for n in range(40_000))
    yield "keys that are nearly right", PLAIN + "".join(f"brunches{n}: {n}\n" for n in range(900))
    parameters = ", ".join(f"p{n}: 1" for n in range(900))
    yield (
        "keys of a parameter",
        PLAIN.replace("{flip: {}}", f"{{flip: {{{parameters}}}}}"),
    )
    yield "a list of a hundred thousand", PLAIN.replace("{uri: in}", "{uri: in, drop: [" + "a, " * 100_000 + "]}")
    yield "forty thousand wrong values", PLAIN.replace("{uri: in}", "{uri: in, drop: [" + "1, " * 40_000 + "]}")
    yield (
        "five thousand branches",
        f"{HEAD}{INPUT}{OUTPUT}branches: [{BRANCH * 5_000}]\n",
    )
    yield "a thousand operators", PLAIN.replace("[{flip: {}}]", "[" + "{flip: {}}, " * 1_000 + "]")
    yield "too many bytes", PLAIN + "# " + "x" * (1 << 20)
    yield "a long value", PLAIN.replace("uri: in", f'uri: "{"x" * 100_000}"')
    yield "a long key", f"{PLAIN}? {'k' * 60_000}\n: 1\n"
    yield "a long name", PLAIN.replace("name: b", f"name: {'b' * 60_000}")
    yield "many documents", "---\n" * 50_000
    yield "many directives", "".join(f"%TAG !a{n}! tag:a.org,2026:\n" for n in range(99)) + f"---\n{PLAIN}"
    yield "a brace and commas", PLAIN.replace("uri: in", f'uri: "{{{"," * 40_000}"')
    yield "many braces", PLAIN.replace("uri: in", f'uri: "{"{5..5}" * 8_000}"')
    yield "a brace of many digits", PLAIN.replace("uri: in", f'uri: "{{{"0" * 60_000}..9}}"')
    yield "many anchors", "".join(f"- &a{n} 1\n" for n in range(60_000))


def _values() -> Iterator[tuple[str, str]]:
    for seed in ("9" * 5_000, "1" + "0" * 30, "-1", "0x" + "f" * 40, "010", "1:30:00", "1_0e5", "0.5", ".inf", ".nan",
                 "1.0e+400", "2024-01-01", "2024-13-99", "~", "[]", "{}", "seven", "!!int seven",
                 "!!python/object/apply:os.getcwd []", "!!python/name:os.environ", "!!binary aGk=", "!!set {a}",
                 "!custom 7", "*nothing", "&a *a"):  # fmt: skip
        yield f"seed {seed[:40]}", PLAIN.replace("seed: 7", f"seed: {seed}")
    for field in ("allow_paths: [s3://a/b]", "allow_paths: ['']", "allow_urls: [/etc]", "allow_urls: ['file:///etc']",
                  "allow_urls: ['http://*.a.*/']", "allow_urls: [true]", "max_pixels: 0", "max_image_bytes: 0",
                  "max_image_bytes: 9e99", "max_pixels: .inf"):  # fmt: skip
        yield f"input {field}", PLAIN.replace("uri: in", f"uri: in, {field}")
    for uri in (
        "zip://a::s3://b",
        "nosuch://a",
        "'../nothing'",
        "/dev/null",
        "'in/*.nothing'",
        "[in",
        "'~nobody/x'",
    ):
        yield f"uri {uri}", PLAIN.replace("uri: in", f"uri: {uri}")
    for name in ("'../../etc'", "'a/b'", "'A'", "''", "'-rf'", "original", '"b\\0"'):
        yield f"branch {name}", PLAIN.replace("name: b", f"name: {name}")
    yield "copies without end", PLAIN.replace("name: b", "name: b, copies: 99999999999")
    yield "an operator of another module", PLAIN.replace("flip", "'os:system'")
    yield "an operator by its class", PLAIN.replace("flip", "pipeline.operators.classical.flip")
    yield "a key that is a list", f"{PLAIN}? [a, b]\n: 1\n"
    yield "a key that is a mapping", f"{PLAIN}? {{a: b}}\n: 1\n"
    yield "a key that is there twice", f"{PLAIN}seed: 8\n"
    yield "a key that is a number", f"{PLAIN}7: 8\n"
    yield "a key that is null", f"{PLAIN}~: 8\n"


def _conditions() -> Iterator[tuple[str, str]]:
    for where in (
        "9**9**9**9 == label", "label ** 9999999 > 1", "'a' * 999999999 == 'b'", "label == " * 3_000 + "label",
        "-" * 9_000 + "label > 1", "(" * 5_000 + "label" + ")" * 5_000, "label == 1 or " * 4_000 + "label == 1",
        "__import__('os').getcwd() == 'a'", "@label > 1", "label.__class__ == 1", "(lambda: 1)() == label",
        "[label for label in (1, 2)]", "label := 1", "label.str.contains('(a+)+$')", "label.apply('x')",
        "open('recipe.yaml') == 1", "`no such column` == 1", "'\\x1b[2J' in label", "label == 1;", " ", "label",
        "label == " + "9" * 60_000, "label.isin([" + "1, " * 20_000 + "])",
    ):  # fmt: skip
        text = where.replace("\\", "\\\\").replace('"', '\\"')
        yield f"where {where[:30]}", PLAIN.replace("name: b", f'name: b, where: "{text}"')


def _escapes() -> Iterator[tuple[str, str]]:
    for escape in ESCAPES:
        yield f"a key with {escape}", f'{PLAIN}"a{escape}b": 1\n'
        yield f"a value with {escape}", PLAIN.replace("seed: 7", f'seed: "a{escape}b"')
        yield f"a path with {escape}", PLAIN.replace("uri: in", f'uri: "in{escape}b"')
        yield f"an operator with {escape}", PLAIN.replace("flip", f'"a{escape}b"')


def _no_yaml() -> Iterator[tuple[str, str | bytes]]:
    yield "empty", ""
    yield "only a comment", "# nothing\n"
    yield "only spaces", " " * 100_000
    yield "a list at the top", "- a\n"
    yield "a text at the top", "just words"
    yield "a number at the top", "7"
    yield "two documents", f"{PLAIN}---\n{PLAIN}"
    yield "tabs", "input:\n\turi: in\n"
    yield "not UTF-8", PLAIN.encode() + b"# \xff\xfe\n"
    yield "UTF-16", PLAIN.encode("utf-16")
    yield "binary", bytes(range(256)) * 10
    yield "a null byte", PLAIN.encode() + b"\0"
    yield "a PNG", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "JSON cut off", '{"version": 1, "seed": '
    yield "an open quote", PLAIN + 'x: "' + "y" * 10_000
    yield "an unknown directive", "%YAML 9.9\n---\n" + PLAIN
    yield "escapes that are none", PLAIN + 'x: "\\q"\n'
