"""Regression gates: measures what must not get worse and holds it to ``gates.toml``.

    python benchmarks/gates.py              # exit 1 where a gate fails, one line each
    python benchmarks/gates.py --update     # what is measured now becomes what is expected
    python benchmarks/gates.py --install install.json   # with what device_install.py wrote

Bytes made from integers are exact. Bytes and AP made from images may differ a little between
machines, whose networks are floating-point. Times are ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.files import replacing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from gate_measurements import (  # noqa: E402
    BASE,
    Measured,
    base_install,
    golden,
    rates,
    speeds,
    synthetic,
)

GATES = ROOT / "benchmarks" / "gates.toml"
RULES = ("equal", "relative", "absolute", "at_most")
UPDATE = "python benchmarks/gates.py --update"
HEAD = """\
# What must not get worse; `python benchmarks/gates.py` holds measurements to it.
# Written by the command below. Limits may be edited by hand and are kept; expected values are
# measured. Rules: equal; relative and absolute: at most `limit` away from `expected`;
# at_most: at most `limit`, whatever was expected.
# Rates are of 60 generated scenes of coloured shapes and say nothing about photographs: on the
# scenes WebP lost more than 2 AP even at quality 95.
"""


@dataclass(frozen=True)
class Gate:
    """What is expected of one measurement.

    Attributes:
        name: The measurement's.
        rule: One of ``RULES``.
        expected: A digest or a number, as measured when the gate was set.
        limit: Of the rule; None for ``equal``.
        made_with: Package to version; under another version the gate only reports.
    """

    name: str
    rule: str
    expected: str | float
    limit: float | None = None
    made_with: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"gate {self.name}: rule {self.rule!r} is not one of {RULES}")
        if (self.limit is None) != (self.rule == "equal"):
            raise InputError(f"gate {self.name}: rule {self.rule} and limit {self.limit} disagree")
        if self.rule != "equal" and isinstance(self.expected, str):
            raise InputError(f"gate {self.name}: rule {self.rule} needs a number, not text")

    def holds(self, value: str | float) -> bool:
        """Whether a measured value passes."""
        expected, limit = self.expected, self.limit
        if limit is None or isinstance(value, str) or isinstance(expected, str):
            return value == expected
        if self.rule == "at_most":
            return value <= limit
        allowed = limit * abs(expected) if self.rule == "relative" else limit
        return abs(value - expected) <= allowed

    @property
    def limit_text(self) -> str:
        """The limit, for people."""
        if self.limit is None:
            return "equal"
        return {
            "relative": f"within {100 * self.limit:g} %",
            "absolute": f"within {self.limit:g}",
            "at_most": f"at most {self.limit:g}",
        }[self.rule]


@dataclass(frozen=True)
class Verdict:
    """How one gate went: ``ok``, ``FAIL`` or ``other`` (made with another version)."""

    state: str
    text: str


def judge(gates: Sequence[Gate], measured: Sequence[Measured]) -> list[Verdict]:
    """Hold measurements to gates; a gate without a measurement fails, and the other way round."""
    expected = {gate.name: gate for gate in gates}
    verdicts = [_judge(expected.pop(x.name, None), x) for x in measured]
    missing = (f"{x.name}: expected {_short(x.expected)}, got nothing" for x in expected.values())
    verdicts += [Verdict("FAIL", text) for text in missing]
    return verdicts


def _judge(gate: Gate | None, measured: Measured) -> Verdict:
    got = _short(measured.value)
    if gate is None:
        return Verdict(
            "FAIL", f"{measured.name}: got {got}, expected nothing; keep it with {UPDATE}"
        )
    text = f"{gate.name}: expected {_short(gate.expected)}, got {got}, limit: {gate.limit_text}"
    now, then = dict(measured.made_with or {}), dict(gate.made_with or {})
    if now != then:
        return Verdict("other", f"{text} (set with {then}, here {now}; not held to it)")
    return Verdict("ok" if gate.holds(measured.value) else "FAIL", text)


def updated(gates: Sequence[Gate], measured: Iterable[Measured]) -> list[Gate]:
    """Gates that expect what was measured; limits that were there are kept."""
    old = {gate.name: gate for gate in gates}
    return [
        Gate(
            x.name, x.rule, x.value,
            old[x.name].limit if x.name in old and old[x.name].rule == x.rule else x.limit,
            x.made_with,
        )
        for x in measured
    ]  # fmt: skip


def read_gates(path: Path) -> list[Gate]:
    """Read ``gates.toml``.

    Raises:
        InputError: It is missing, not TOML, or holds something else.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        return [Gate(**gate) for gate in data["gate"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({error}); run: {UPDATE}") from error


def gates_text(gates: Iterable[Gate], environment: Environment) -> str:
    """``gates.toml``."""
    lines = [
        HEAD,
        f"command = {_toml(environment.command or UPDATE)}",
        f"commit = {_toml(environment.git_sha or 'unknown')}",
        f"cpu_model = {_toml(environment.cpu_model)}",
        f"packages = {_toml({k: v for k, v in environment.packages.items() if v})}",
    ]
    for gate in gates:
        lines += ["", "[[gate]]", f"name = {_toml(gate.name)}", f"rule = {_toml(gate.rule)}"]
        lines.append(f"expected = {_toml(gate.expected)}")
        if gate.limit is not None:
            lines.append(f"limit = {_toml(gate.limit)}")
        if gate.made_with:
            lines.append(f"made_with = {_toml(gate.made_with)}")
    return "\n".join(lines) + "\n"


def _toml(value: str | float | Mapping[str, str]) -> str:
    """A value as TOML writes it; a JSON string is a TOML string."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value) if isinstance(value, str) else repr(round(float(value), 6))


def _short(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.1f}"
    return value[:12] if len(value) == 64 else value


def measure_all(console: Console, install: Path | None = None) -> Iterator[Measured]:
    """Everything, in about a minute; the base install where it has been measured."""
    if install is not None:
        yield from base_install(install)
    yield from golden(ROOT / "tests" / "golden")
    yield from synthetic()
    with tempfile.TemporaryDirectory() as name, Progress(console=console, transient=True) as bar:
        task = bar.add_task("generated scenes", total=None)

        def move(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield from rates(Path(name), move)
        yield from speeds(Path(name))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--install", type=Path, help="what device_install.py wrote")
    options = parser.parse_args(arguments)
    before = read_gates(GATES) if GATES.is_file() or not options.update else []
    # An install takes an environment of its own: where none was measured, its gates rest.
    resting = [x for x in before if options.install is None and x.name.startswith(BASE)]
    measured = list(measure_all(Console(stderr=True), options.install))
    verdicts = judge([x for x in before if x not in resting], measured)
    if options.update:
        for verdict in verdicts:
            if verdict.state != "ok":
                print(f"set   {verdict.text}")
        with replacing(GATES) as temporary:
            kept = [*resting, *updated(before, measured)]
            text = gates_text(kept, Environment.capture(UPDATE, threads=1))
            temporary.write_text(text, "utf-8")
        return 0
    for verdict in verdicts:
        print(f"{verdict.state:5} {verdict.text}")
    failed = sum(verdict.state == "FAIL" for verdict in verdicts)
    print(f"{failed} of {len(verdicts)} gates fail" if failed else "all gates hold")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
