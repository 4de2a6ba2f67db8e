"""The operator's guide names every setting and every metric, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from document_kit import blocks

from fpcodec_server.config import ServerConfig, kinds
from fpcodec_server.config_sources import load_config
from fpcodec_server.metrics import ServerMetrics
from fpcodec_server.tokens import Tokens


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "docs" / "operations.md").read_text("utf-8")


def block(guide: str, language: str) -> str:
    return blocks(guide, language)[0]


def rows(guide: str) -> list[str]:
    return re.findall(r"^\| (`.*?) \|", guide, re.MULTILINE)


def test_every_setting_is_in_the_guide_and_no_other(guide: str) -> None:
    named = {x for row in rows(guide) for x in re.findall(r"`([^`]+)`", row)}
    assert {x for x in named if not x.startswith("fpcodec_")} == set(kinds())


def test_every_metric_is_in_the_guide_and_no_other(guide: str) -> None:
    families = [x for x in ServerMetrics().registry.collect() if x.name.startswith("fpcodec_")]
    names = {x.name + ("_total" if x.type == "counter" else "") for x in families}
    named = {x for row in rows(guide) for x in re.findall(r"`(fpcodec_[^`]+)`", row)}
    assert named == names


def test_the_example_is_a_configuration(guide: str, tmp_path: Path) -> None:
    for name in ("server.crt", "server.key", "cameras-ca.pem", "tokens"):
        (tmp_path / name).touch()
    (tmp_path / "serve.toml").write_text(block(guide, "toml"))
    config = load_config(tmp_path / "serve.toml").config
    assert config.clients.bytes_per_s == 1_000_000
    assert config.tls.client_ca == tmp_path / "cameras-ca.pem"
    assert config != ServerConfig()


def test_the_example_of_tokens_can_be_read(guide: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(block(guide, "text"))
    assert Tokens(path).name_of("6e0b7f1c2ad94a53b1c9a4d1d0d9c8a7") == "yard"
