"""The spool: order, limit, restart, damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec import errors
from fpcodec_edge.spool import DamagedSpoolFile, Spool


def drain(spool: Spool) -> list[bytes]:
    frames = []
    while (item := spool.oldest()) is not None:
        frames.append(item.frame)
        spool.remove(item.sequence)
    return frames


def test_frames_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    frames = [bytes([n]) * (n + 1) for n in range(20)]
    spool = Spool(tmp_path / "new" / "spool", 1 << 20)
    for number, frame in enumerate(frames[:12]):
        assert spool.put(frame, {"number": number}) == 0
    again = Spool(tmp_path / "new" / "spool", 1 << 20)
    for number, frame in enumerate(frames[12:], 12):
        again.put(frame, {"number": number})
    first = again.oldest()
    assert first is not None
    assert first.facts == {"number": 0}
    second = again.oldest(besides=[first.sequence])
    assert second is not None
    assert second.frame == frames[1]
    assert drain(again) == frames
    assert list((tmp_path / "new" / "spool").iterdir()) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=400), max_size=30), st.integers(600, 3000))
def test_the_limit_is_kept_and_every_eviction_counted(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes], max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, evicted = Spool(folder, max_bytes), 0
    for frame in frames:
        evicted += spool.put(frame, {})
        assert sum(x.stat().st_size for x in folder.iterdir()) == spool.stored_bytes <= max_bytes
    assert drain(spool) == frames[evicted:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b"number", b"rebmun"),
        lambda data: b"\xff" * 100,
        lambda data: b"[" * 60_000 + b"\n",
        lambda data: b"[]\n",
    ],
)
def test_a_damaged_file_is_told_once_and_costs_no_other(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    spool = Spool(tmp_path, 1 << 20)
    for frame in (b"first", b"second"):
        spool.put(frame, {"number": 1})
    path = min(tmp_path.iterdir())
    path.write_bytes(damage(path.read_bytes()))
    spool = Spool(tmp_path, 1 << 20)
    with pytest.raises(DamagedSpoolFile, match=path.name):
        spool.oldest()
    assert drain(spool) == [b"second"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".77.000000000001.spooled").write_text("half")
    spool = Spool(tmp_path, 1000)
    assert len(spool) == 0
    assert [x.name for x in tmp_path.iterdir()] == ["notes.txt"]


def test_a_smaller_limit_after_a_restart_gives_up_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100_000)
    for number in range(10):
        spool.put(bytes(1000), {"number": number})
    smaller = Spool(tmp_path, 4500)
    oldest = smaller.oldest()
    assert oldest is not None
    assert oldest.facts["number"] == 10 - len(smaller)
    assert smaller.stored_bytes <= 4500


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="longer than the spool"):
        Spool(tmp_path, 100).put(bytes(200), {})
    with pytest.raises(errors.InputError, match="allow more"):
        Spool(tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.InputError, match="cannot be used as a spool"):
        Spool(tmp_path / "file", 1000)
