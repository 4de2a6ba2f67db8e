"""The gates: a value that got worse fails by its name, and the exact ones repeat exactly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.profile import Profile, embedded_profile_path

ENVIRONMENT = Environment("a command", "0" * 40, {"pillow": "1.2", "torch": None}, 'a "cpu"', 1)


@pytest.fixture(autouse=True)
def _benchmarks_on_path(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))


@pytest.fixture
def gates() -> Any:
    import gates

    return gates


@pytest.fixture
def measurements() -> Any:
    import gate_measurements

    return gate_measurements


@pytest.mark.parametrize(
    ("rule", "expected", "limit", "good", "bad"),
    [
        ("equal", "ab", None, ["ab"], ["ac", ""]),
        ("relative", 1000.0, 0.01, [990.0, 1000.0, 1010.0], [989.0, 1011.0, float("nan"), "ab"]),
        ("absolute", 70.0, 0.3, [69.71, 70.29], [69.6, 70.4, float("nan")]),
        ("at_most", 0.4, 0.5, [0.1, 0.5], [0.51, float("nan"), float("inf")]),
        ("at_most", -2.0, 0.0, [-1.0, 0.0], [0.1]),
    ],
)
def test_rules(gates: Any, rule: str, expected: Any, limit: Any, good: Any, bad: Any) -> None:
    gate = gates.Gate("a gate", rule, expected, limit)
    assert all(gate.holds(value) for value in good)
    assert not any(gate.holds(value) for value in bad)


@pytest.mark.parametrize(
    "arguments",
    [("x", "about", 1.0, 0.1), ("x", "equal", "ab", 0.1), ("x", "relative", 1.0, None),
     ("x", "absolute", "ab", 0.3)],
)  # fmt: skip
def test_gates_that_make_no_sense_are_refused(gates: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="gate x"):
        gates.Gate(*arguments)


def test_a_broken_value_fails_with_its_name_and_its_limit(gates: Any, measurements: Any) -> None:
    expected = [
        gates.Gate("frames: bytes", "equal", "a" * 64),
        gates.Gate("q0.5: mean bytes", "relative", 1000.0, 0.01),
        gates.Gate("q0.5: AP", "absolute", 70.0, 0.3),
    ]
    measured = [
        measurements.Measured("frames: bytes", "b" * 64, "equal"),
        measurements.Measured("q0.5: mean bytes", 1011.0, "relative", 0.01),
        measurements.Measured("q0.5: AP", 69.9, "absolute", 0.3),
    ]
    verdicts = gates.judge(expected, measured)
    assert [verdict.state for verdict in verdicts] == ["FAIL", "FAIL", "ok"]
    assert verdicts[0].text == (
        "frames: bytes: expected aaaaaaaaaaaa, got bbbbbbbbbbbb, limit: equal"
    )
    assert verdicts[1].text == "q0.5: mean bytes: expected 1,000.0, got 1,011.0, limit: within 1 %"


def test_a_gate_without_a_measurement_fails_and_the_other_way_round(
    gates: Any, measurements: Any
) -> None:
    left = gates.judge([gates.Gate("old", "equal", "ab")], [])
    assert [(x.state, x.text) for x in left] == [("FAIL", "old: expected ab, got nothing")]
    (new,) = gates.judge([], [measurements.Measured("new", 2.0, "at_most", 3.0)])
    assert new.state == "FAIL"
    assert (
        "new: got 2, expected nothing; keep it with python benchmarks/gates.py --update" in new.text
    )


def test_another_version_of_the_rival_is_reported_and_not_held_to_it(
    gates: Any, measurements: Any
) -> None:
    gate = gates.Gate("webp: mean bytes", "relative", 100.0, 0.01, {"pillow": "1"})
    same = measurements.Measured("webp: mean bytes", 150.0, "relative", 0.01, {"pillow": "1"})
    other = dataclasses.replace(same, made_with={"pillow": "2"})
    assert [x.state for x in gates.judge([gate], [same])] == ["FAIL"]
    (verdict,) = gates.judge([gate], [other])
    assert verdict.state == "other"
    assert "got 150" in verdict.text


def test_updating_keeps_limits_and_survives_the_file(
    gates: Any, measurements: Any, tmp_path: Path
) -> None:
    old = [gates.Gate("time", "at_most", 0.3, 0.9), gates.Gate("gone", "equal", "ab")]
    measured = [
        measurements.Measured("time", 0.25, "at_most", 0.7),
        measurements.Measured('a "name"', 1234.5, "relative", 0.01, {"pillow": "1.2"}),
        measurements.Measured("digest", "cd", "equal"),
    ]
    new = gates.updated(old, measured)
    assert [gate.limit for gate in new] == [0.9, 0.01, None]
    path = tmp_path / "gates.toml"
    path.write_text(gates.gates_text(new, ENVIRONMENT), "utf-8")
    assert gates.read_gates(path) == new
    assert all(x.state == "ok" for x in gates.judge(gates.read_gates(path), measured))
    head = gates.tomllib.loads(path.read_text("utf-8"))
    assert (head["command"], head["cpu_model"]) == ("a command", 'a "cpu"')
    assert head["packages"] == {"pillow": "1.2"}


def test_the_command_fails_by_exit_code_and_updates_on_request(
    gates: Any,
    measurements: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = [measurements.Measured("size", 100.0, "relative", 0.01)]
    monkeypatch.setattr(gates, "GATES", tmp_path / "gates.toml")
    monkeypatch.setattr(gates, "measure_all", lambda console, install: iter(values))
    assert gates.main(["--update"]) == 0
    assert gates.main([]) == 0
    assert capsys.readouterr().out.endswith("all gates hold\n")
    values[0] = dataclasses.replace(values[0], value=120.0)
    assert gates.main([]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "FAIL  size: expected 100, got 120, limit: within 1 %",
        "1 of 1 gates fail",
    ]
    assert gates.main(["--update"]) == 0
    assert gates.main([]) == 0


@pytest.mark.parametrize("text", ["no toml", "command = 'x'", "[[gate]]\nname = 'x'\n", None])
def test_a_file_that_is_no_gates_is_refused(gates: Any, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "gates.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"cannot be read .*--update"):
        gates.read_gates(path)


def test_exact_gates_hold_today(gates: Any, measurements: Any, repository: Path) -> None:
    golden = list(measurements.golden(repository / "tests" / "golden"))
    exact = [*golden, *measurements.synthetic()]
    assert len(golden) == 6
    assert len({x.value for x in exact}) == len(exact)
    names = {x.name for x in exact}
    committed = [x for x in gates.read_gates(gates.GATES) if x.name in names]
    failed = [x.text for x in gates.judge(committed, exact) if x.state != "ok"]
    assert failed == []


def test_a_codec_that_loses_integers_is_noticed(
    measurements: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = measurements.chunked(Profile.load(embedded_profile_path()))
    levels = measurements.synthetic_levels(codec, ("p5",), "a seed")
    data = codec.coder.write(
        levels, 90, measurements.SYNTHETIC_IMAGE, measurements.SYNTHETIC_NETWORK
    )
    decoded = codec.decode(data)
    assert measurements.same_integers(decoded, levels)
    wrong = levels["p5"].symbols.copy()
    wrong[0, 0, 0] += 1
    changed = {"p5": dataclasses.replace(levels["p5"], symbols=wrong)}
    assert not measurements.same_integers(decoded, changed)
    monkeypatch.setattr(measurements, "same_integers", lambda decoded, levels: False)
    assert {x.value for x in measurements.synthetic()} == {"decodes to other integers"}


def test_synthetic_integers_reach_escapes_and_every_step_class(measurements: Any) -> None:
    codec = measurements.chunked(Profile.load(embedded_profile_path()))
    levels = measurements.synthetic_levels(codec, codec.spec.coded_names, "all q64")
    assert {-16, -1, 0, 1, 14, 5_000} <= set(np.unique(levels["p2"].symbols).tolist())
    assert set(np.unique(levels["p2"].classes)) == set(range(codec.step_classes))


@pytest.mark.slow
def test_all_gates_hold(gates: Any) -> None:
    assert gates.main([]) == 0


INSTALL = {
    "disk_mb": 250.0, "heavy": [], "packages": 26, "peak_mb": {"python": 8.0, "frame tiny": 105.0},
    "import_by_start": 2.0, "answer_by_libraries": 3.0,
}  # fmt: skip


def installed(gates: Any, measurements: Any, folder: Path, **changes: Any) -> list[str]:
    """States of the committed gates of the base install, for a row with some changes."""
    path = folder / "install.json"
    path.write_text(json.dumps({**INSTALL, **changes}))
    held = [x for x in gates.read_gates(gates.GATES) if x.name.startswith(measurements.BASE)]
    verdicts = gates.judge(held, list(measurements.base_install(path)))
    return [x.text.partition(": expected")[0] for x in verdicts if x.state == "FAIL"]


def test_the_base_install_is_held_to_its_limits(
    gates: Any, measurements: Any, tmp_path: Path
) -> None:
    assert installed(gates, measurements, tmp_path) == []
    for changes, name in (
        ({"disk_mb": 401.0}, "MB on disk"),
        ({"heavy": ["torch"]}, "torch, onnx, ray"),
        ({"packages": 60}, "packages"),
        ({"peak_mb": {"frame tiny": 500.0}}, "peak MB of a frame"),
    ):
        assert installed(gates, measurements, tmp_path, **changes) == [f"base install: {name}"]
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=r"device_install\.py"):
        list(measurements.base_install(tmp_path / "bad.json"))


def test_without_a_base_install_its_gates_rest(
    gates: Any, measurements: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "gates.toml"
    both = [gates.Gate("one", "equal", "a"),
            gates.Gate(f"{measurements.BASE} MB on disk", "at_most", 1.0, 2.0)]  # fmt: skip
    path.write_text(gates.gates_text(both, ENVIRONMENT))
    monkeypatch.setattr(gates, "GATES", path)
    found = [measurements.Measured("one", "a", "equal")]
    monkeypatch.setattr(gates, "measure_all", lambda console, install: found)
    assert gates.main([]) == 0
    assert "all gates hold" in capsys.readouterr().out
    assert gates.main(["--update"]) == 0
    assert gates.read_gates(path) == both[::-1]
    assert gates.main(["--install", "x"]) == 1
