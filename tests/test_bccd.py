"""The embedded detector of blood cells: its profile, its card, and its network in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fpcodec import EdgeHalf, Profile, ServerHalf, embedded_profile_path
from fpcodec.cli.options import open_profile
from fpcodec.data import generate_scene
from fpcodec.data.coco import load_coco
from fpcodec.detectors.factory import open_detector
from fpcodec.errors import InputError, ModelError, ProfileError
from fpcodec.images import load_image

ASSETS = embedded_profile_path("bccd")
SHARED = Path(__file__).parents[2] / "shared" / "data" / "bccd"
CELL = (120, 90, 200, 170)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(ASSETS)


def drawn_cell() -> np.ndarray:
    """A pale field with one round, purple, textured cell in ``CELL``."""
    rng = np.random.default_rng(0)
    image = np.full((288, 384, 3), (214, 205, 208), np.float64)
    left, top, right, bottom = CELL
    rows, columns = np.mgrid[:288, :384]
    distance = np.hypot(
        (columns - (left + right) / 2) / ((right - left) / 2),
        (rows - (top + bottom) / 2) / ((bottom - top) / 2),
    )
    image[distance < 1] = (190, 150, 190)
    image[distance < 0.75] = (120, 70, 160)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def overlap(box: np.ndarray, other: tuple[int, int, int, int]) -> float:
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = np.prod((high - low).clip(0))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return float(shared / (sum(areas) - shared))


def test_a_cell_is_found_through_the_codec(profile: Profile) -> None:
    image = drawn_cell()
    unsplit = profile.open_detector("both", threads=1)
    whole = unsplit.detect(unsplit.extract(image))
    frame = EdgeHalf(profile, threads=1).encode(image, quality=0.9)
    split = ServerHalf(profile, threads=1).infer(frame.data).detections
    assert profile.labels == ("Platelets", "RBC", "WBC")
    for found in (whole, split):
        assert len(found) > 0
        assert overlap(found.boxes[0], CELL) > 0.5


def test_other_picture_sizes_and_contents_run(profile: Profile) -> None:
    image = generate_scene(3).image
    frame = EdgeHalf(profile, threads=1).encode(image, quality=0.5)
    found = ServerHalf(profile, threads=1).infer(frame.data).detections
    height, width = image.shape[:2]
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()


def test_levels_of_a_height_that_p6_does_not_divide(profile: Profile) -> None:
    detector = profile.open_detector("both", threads=1)
    pyramid = detector.extract(drawn_cell())
    shapes = {name: level.shape[1:] for name, level in pyramid.levels.items()}
    assert shapes == {"p2": (72, 96), "p3": (36, 48), "p4": (18, 24), "p5": (9, 12)}
    assert detector.spec.shape("p6", (384, 288)) == (48, 5, 6)


def test_the_profile_opens_by_name_where_no_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_profile(Path("bccd")).name == "bccd"
    assert open_profile(None).name == "tiny"
    (tmp_path / "bccd").mkdir()
    with pytest.raises(ProfileError, match="not a profile"):
        open_profile(Path("bccd"))
    with pytest.raises(InputError, match="no embedded profile 'cells'; there are tiny, bccd"):
        embedded_profile_path("cells")


def test_the_detector_opens_by_name_and_by_folder(tmp_path: Path) -> None:
    by_name, by_folder = (open_detector(f"tiny:{where}", threads=1) for where in ("bccd", ASSETS))
    image = drawn_cell()
    assert by_name.labels == by_folder.labels == ("Platelets", "RBC", "WBC")
    found = [x.detect(x.extract(image)) for x in (by_name, by_folder)]
    np.testing.assert_array_equal(found[0].boxes, found[1].boxes)
    with pytest.raises(ModelError, match="give a folder that holds a tiny"):
        open_detector(f"tiny:{tmp_path}")


def test_the_card_states_data_training_and_accuracy() -> None:
    card = json.loads((ASSETS / "card.json").read_text())
    assert "Shenggan/BCCD_Dataset" in card["data"]
    assert "shenggan" in (ASSETS / "NOTICE").read_text()
    assert card["evaluation"]["images"] == 159
    assert card["evaluation"]["coco"]["AP"] >= 45
    assert set(card["evaluation"]["coco"]["classes"]) == set(card["classes"])
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 14_000_000


def test_torch_weights_are_the_graphs_weights() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from fpcodec.detectors.tiny import load_tiny

    image = drawn_cell()
    with torch.no_grad():
        wanted = load_tiny(ASSETS)([torch.from_numpy(image).permute(2, 0, 1).float()])[0]
    detector = open_detector("tiny:bccd", threads=1)
    found = detector.detect(detector.extract(image))
    np.testing.assert_allclose(found.boxes, wanted["boxes"].numpy(), atol=384 * 1e-4)
    np.testing.assert_array_equal(found.labels + 1, wanted["labels"].numpy())


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/bccd is not here")
def test_most_white_cells_of_real_smears_are_found() -> None:
    dataset = load_coco(SHARED / "val.json", SHARED / "images", limit=12)
    white = next(c.id for c in dataset.categories if c.name == "WBC")
    detector = open_detector("tiny:bccd", threads=1)
    hits = []
    for entry in dataset.images:
        found = detector.detect(detector.extract(load_image(dataset.path(entry))))
        sure = found.boxes[(found.labels == 2) & (found.scores > 0.5)]
        for box in dataset.boxes:
            if box.image_id == entry.id and box.category_id == white:
                x, y, width, height = box.bbox
                truth = (x, y, x + width, y + height)
                hits.append(any(overlap(b, truth) > 0.5 for b in sure))
    assert np.mean(hits) > 0.8
