"""Bad input on the command line: one line on stderr, exit code 2, no traceback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fpcodec.cli.app import app


def refusal(*arguments: object) -> str:
    """The one error line of a command that must fail."""
    result = CliRunner().invoke(app, [str(x) for x in arguments])
    assert result.exit_code == 2, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return str(result.stderr)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of the loopback interface that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("command", ["encode", "decode", "inspect"])
def test_missing_file(command: str, tmp_path: Path) -> None:
    assert "nothing.jpg: no such file" in refusal(command, tmp_path / "nothing.jpg")


def test_a_folder_in_the_place_of_a_file(photo: Path, tmp_path: Path) -> None:
    assert f"is a folder; name image files, as {tmp_path}/*.jpg" in refusal("encode", tmp_path)
    assert "is a folder; name an .fpc frame" in refusal("decode", tmp_path)
    assert CliRunner().invoke(app, ["encode", str(photo)]).exit_code == 0
    message = refusal("decode", photo.with_suffix(".fpc"), "--out", tmp_path)
    assert f"{tmp_path} cannot be written: it is a folder; name a file in it" in message


def test_a_file_in_the_place_of_a_folder(photo: Path, tmp_path: Path) -> None:
    server = ("--server", "127.0.0.1:1")
    assert "is a file; name a folder" in refusal("encode", photo, "--out", photo)
    assert "is a file; name a folder" in refusal("detect", photo, *server, "--draw", photo)
    images = ("--images", photo, "--out", tmp_path / "out")
    assert "is a file; name the folder" in refusal("calibrate", "--detector", "tiny", *images)


def test_a_frame_of_another_profile_names_the_remedy(photo: Path) -> None:
    assert CliRunner().invoke(app, ["encode", str(photo), "-p", "bccd"]).exit_code == 0
    assert "stream a79c826d" in (said := refusal("decode", photo.with_suffix(".fpc")))
    assert "-p PROFILE" in said


def test_a_group_alone_shows_its_help() -> None:
    for group in ("profiles", "bench"):
        result = CliRunner().invoke(app, [group])
        assert result.exit_code == 2
        assert "Example" in result.output or "rd" in result.output
        assert "error:" not in result.output


def test_a_value_of_another_kind_is_repeated(photo: Path) -> None:
    assert "'2kB' is not a" in refusal("encode", photo, "--max-bytes", "2kB")
    assert "'high' is not a" in refusal("encode", photo, "--quality", "high")
    assert "--limit" in refusal("calibrate", "--limit", "0")


def test_missing_file_among_others_before_any_work(photo: Path, tmp_path: Path) -> None:
    assert "no such file" in refusal("encode", photo, tmp_path / "nothing.jpg")
    assert not photo.with_suffix(".fpc").exists()


@pytest.mark.parametrize("content", [b"this is not a picture", b"", b"\xff\xd8\xff\xe0"])
def test_file_that_is_no_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    assert "text.jpg" in refusal("encode", path)


@pytest.mark.parametrize("quality", ["1.01", "-0.1", "nan", "inf"])
def test_quality_out_of_range(quality: str, photo: Path) -> None:
    assert "not in [0, 1]" in refusal("encode", photo, f"--quality={quality}")


def test_a_quality_and_a_budget(photo: Path) -> None:
    assert "exclude each other" in refusal("encode", photo, "--quality=0.5", "--max-bytes=900")


def test_a_budget_below_the_smallest_frame(photo: Path) -> None:
    assert "below the smallest frame" in refusal("encode", photo, "--max-bytes=12")


@pytest.mark.parametrize("levels", ["p9", "p3,p9", "huge", ",", ""])
def test_unknown_levels(levels: str, photo: Path) -> None:
    refusal("encode", photo, f"--levels={levels}")


def test_unknown_profile_folder(photo: Path, tmp_path: Path) -> None:
    message = refusal("encode", photo, "--profile", tmp_path / "nowhere")
    assert "nowhere: no such folder" in message
    assert "tiny, bccd" in message
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal("serve", "--profile", tmp_path / "empty")


@pytest.mark.parametrize("content", [b"", b"FPC", b"FPC\x01" + bytes(40), b"PNG" * 20])
def test_file_that_is_no_frame(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.fpc"
    path.write_bytes(content)
    refusal("decode", path)
    refusal("inspect", path)


def test_server_not_there(photo: Path, free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    assert address in refusal("detect", photo, "--server", address, "--deadline", "1")


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:99999", ":1", ""])
def test_address_of_another_form(address: str, photo: Path) -> None:
    refusal("detect", photo, f"--server={address}")
    refusal("serve", f"--listen={address}")


def test_port_in_use(taken_port: int) -> None:
    assert str(taken_port) in refusal("serve", "--listen", f"127.0.0.1:{taken_port}")


@pytest.mark.parametrize(
    "spec", ["", "nonsense", "yolo:model.onnx", "onnx:", "onnx:missing.onnx?p3=a&decode=yolox"]
)
def test_detector_that_cannot_be_opened(spec: str, photo: Path, tmp_path: Path) -> None:
    refusal(
        "calibrate", f"--detector={spec}", "--images", photo.parent, "--out", tmp_path / "profile"
    )
    assert not (tmp_path / "profile").exists()


def test_unknown_tensor_name(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="cutting a graph needs fpcodec[bench]")
    from fpcodec.detectors.factory import TINY_FOLDER

    model = TINY_FOLDER / "edge.onnx"
    message = refusal(
        "calibrate", "--detector", f"onnx:{model}?p3=no_such_tensor&decode=detections",
        "--images", photo.parent, "--out", tmp_path / "profile",
    )  # fmt: skip
    assert "no_such_tensor" in message


def test_folders_without_images(tmp_path: Path) -> None:
    out = tmp_path / "profile"
    missing = tmp_path / "nowhere"
    assert "nowhere" in refusal("calibrate", "--detector=tiny", "--images", missing, "--out", out)
    assert "no image" in refusal("calibrate", "--detector=tiny", "--images", tmp_path, "--out", out)


def test_annotations_that_cannot_be_read(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    (tmp_path / "bad.json").write_text("[1, 2")
    for name in ("nowhere.json", "bad.json"):
        message = refusal("eval", "--images", photo.parent, "--annotations", tmp_path / name)
        assert name in message


def test_automatic_levels_need_answers(photo: Path) -> None:
    message = refusal("eval", "--images", photo.parent, "--annotations", photo, "--levels", "auto")
    assert "auto" in message
    assert "auto" in refusal("encode", photo, "--levels", "auto")


def test_calibration_does_not_replace_a_folder_of_other_things(photo: Path) -> None:
    images = photo.parent
    message = refusal("calibrate", "--detector", "tiny", "--images", images, "--out", images)
    assert "not a profile" in message
    assert photo.exists()


def test_output_folder_is_a_file(photo: Path) -> None:
    refusal("encode", photo, "--out", photo)


@pytest.mark.parametrize("arguments", [["nope"], ["encode"], ["encode", "--nope"], ["--nope"]])
def test_usage(arguments: list[str]) -> None:
    assert "--help" in refusal(*arguments)


def test_a_provider_that_is_not_there_names_those_that_are(photo: Path) -> None:
    message = refusal("encode", photo, "--provider", "NoSuchProvider")
    assert "NoSuchProvider" in message
    assert "CPUExecutionProvider" in message
