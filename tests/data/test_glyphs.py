"""Data sets that the program draws: the same bytes every time, and a one-line error if fonts are missing or broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageFont

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.progress import unheard
from pactl_cli.data.glyphs import drawing, fonts, outlines, strokes
from pactl_cli.data.glyphs.chance import Chance, Deformation, wave
from pactl_cli.data.glyphs.handwriting import DIGITS
from pactl_cli.data.glyphs.outlines import BOX, draw_outlines, fields_of
from pactl_cli.data.glyphs.strokes import Form, draw_strokes, scribbles
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.errors import PactlError
from pactl_cli.problem.consent import Named, place_of_data
from pactl_cli.problem.fitting import require_unrelated
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings
from pactl_cli.runs.start import Training
from pactl_cli.stages.assumptions import _on_its_lineage

NAMES = ("glyphs", "glyphs:digits")


def font(name: str) -> Path:
    """Return the path of one of matplotlib's fonts."""
    package = find_spec("matplotlib")
    assert package is not None
    return Path(str(package.origin)).parent / f"mpl-data/fonts/ttf/{name}.ttf"


@pytest.fixture
def folder(tmp_path):
    """A folder with one font: a copy of one of matplotlib's."""
    shutil.copy(font("DejaVuSans"), tmp_path / "One.TTF")
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(drawing, "_TRAIN", 600)
    monkeypatch.setattr(drawing, "_TEST", 200)
    for name in (*NAMES, "digits28"):
        monkeypatch.setitem(catalogue.DATASETS, name, _of(catalogue.DATASETS[name], train_examples=600))


def _of(row, **changes):
    return type(row)(**{**row.__dict__, **changes})


@pytest.mark.parametrize(("name", "classes"), [("glyphs", 112), ("glyphs:digits", 10)])
def test_each_class_is_drawn_as_often_and_both_parts_differ(few, folder, tmp_path, name, classes):
    told = []
    reading = Reading(fonts=folder if name == "glyphs" else None)
    data = load_dataset(name, tmp_path, lambda done, total: told.append((done, total)), reading=reading)
    assert (data.name, data.classes) == (name, classes)
    assert data.train.resident().images.shape == (600, 1, 28, 28)
    assert data.test is not None
    assert len(data.test) == 200
    counts = np.bincount(data.train.labels.numpy(), minlength=classes)
    assert counts.max() - counts.min() <= 1
    images = {image.tobytes() for part in data.parts for image in part.resident().images.numpy()}
    assert len(images) == 800
    assert told[-1] == (800, 800)
    assert told == sorted(told)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_is_drawn_whatever_is_drawn_at_once(few, folder, tmp_path, monkeypatch, name):
    whole = load_dataset(name, tmp_path, reading=Reading(fonts=folder))
    for module in (outlines, strokes):
        monkeypatch.setattr(module, "AT_ONCE", 7)
    again = load_dataset(name, tmp_path, reading=Reading(fonts=folder))
    assert [part.sha256() for part in whole.parts] == [part.sha256() for part in again.parts]


def test_drawings_fill_a_box_and_have_their_mass_in_the_middle(few, tmp_path):
    images = load_dataset("glyphs:digits", tmp_path).train.resident().images.numpy()[:, 0].astype(float)
    rows, columns = ((images > 64).any(axis=axis).sum(axis=1) for axis in (2, 1))
    assert abs(np.median(np.maximum(rows, columns)) - BOX) <= 1
    mass = images.sum(axis=(1, 2))
    assert mass.min() > 0
    for axis in (1, 2):
        middle = (images.sum(axis=3 - axis) * np.arange(28)).sum(axis=1) / mass
        assert abs(middle.mean() - 13.5) < 0.3
        assert middle.std() < 1


def test_what_strokes_and_outlines_draw_is_known_to_the_bit():
    labels = np.arange(20) % 10
    forms = tuple(tuple(Form.of(*form) for form in several) for several in DIGITS)
    written = draw_strokes(Chance("test", 20), (*forms, *scribbles(5)), np.arange(20) % 15, unheard)
    square = np.zeros((30, 20), np.bool_)
    square[:, 8:13] = square[:6] = True  # a T, whatever FreeType draws
    fields, _ = fields_of([(0, square)])
    printed = draw_outlines(Chance("test", 20), fields, labels * 0, unheard)
    assert [sha256(drawn.tobytes()).hexdigest()[:16] for drawn in (written, printed)] == [
        "331b8350515be294",
        "aa7cfe9a94efd26d",
    ]


def test_waves_and_turns_are_what_they_are_called():
    turns = np.linspace(-2, 2, 101)
    assert np.abs(wave(turns) - np.sin(2 * np.pi * turns)).max() < 0.06
    deformation = Deformation.drawn(Chance("test", 5), turn=0.3, shear=0.0, stretch=0.0, waves=0.0)
    x, y = deformation(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(x**2 + y**2, 1.0)
    assert np.ptp(x) > 0.1


def test_every_form_of_a_digit_is_drawn():
    for several in DIGITS:
        drawn = draw_strokes(Chance("test", 40), [[Form.of(*form) for form in several]], np.zeros(40, int), unheard)
        assert drawn.max(axis=(1, 2)).min() > 128


def test_a_bell_is_nearly_normal_and_factors_are_balanced():
    bells, factors = Chance("test", 10_000).bell("a", 2.0), Chance("test", 10_000).factor("b", 0.2)
    assert (abs(bells.mean()), bells.std()) == pytest.approx((0, 2), abs=0.06)
    assert np.log(factors).mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_fonts_is_used_alone(few, folder, tmp_path, monkeypatch, name):
    ours = load_dataset(name, tmp_path, reading=Reading(fonts=folder)).train.sha256()
    assert ours != load_dataset(name, tmp_path).train.sha256()
    monkeypatch.setattr(ImageFont, "load_default", None)
    assert ours == load_dataset(name, tmp_path, reading=Reading(fonts=folder)).train.sha256()


def test_without_matplotlib_pillows_font_is_enough(few, tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    assert fonts.font_files(None) == ()
    assert len(load_dataset("glyphs", tmp_path).train) == 600


def test_digits_need_no_font(few, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "glyph_masks", None)
    digits = load_dataset("glyphs:digits", tmp_path)
    assert [part.sha256()[:16] for part in digits.parts] == ["cb16c7cc042b72d9", "03a53c53e3857f93"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_without_fonts_are_refused_in_a_line(tmp_path, name):
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("no font")
    for place, said in ((absent, "No such file"), (empty, "has no fonts"), (empty / "README.md", "Not a dir")):
        with pytest.raises(PactlError, match=said) as caught:
            load_dataset(name, tmp_path, reading=Reading(fonts=place))
        assert str(place) in caught.value.message
        assert caught.value.hint == "name a folder with fonts: .ttf, .otf, .pfb"


def test_a_broken_font_is_named(folder, tmp_path):
    (folder / "broken.otf").write_bytes(b"no font")
    with pytest.raises(PactlError, match=r"broken.otf.* is not a readable font") as caught:
        load_dataset("glyphs", tmp_path, reading=Reading(fonts=folder))
    assert caught.value.hint == "remove it, or restore it"


def test_a_pipe_is_no_font(tmp_path):
    os.mkfifo(tmp_path / "pipe.ttf")
    with pytest.raises(PactlError, match=r"pipe.ttf.* it is not a file"):
        load_dataset("glyphs", tmp_path, reading=Reading(fonts=tmp_path))


def test_fonts_without_letters_are_refused(tmp_path):
    shutil.copy(font("STIXSizOneSymReg"), tmp_path / "signs.ttf")
    with pytest.raises(PactlError, match="none of the fonts has the character 'a'"):
        load_dataset("glyphs", tmp_path, reading=Reading(fonts=tmp_path))


def test_fonts_have_no_meaning_for_other_data(tmp_path):
    with pytest.raises(PactlError, match=r"--fonts .*: it has no meaning for --dataset digits"):
        load_dataset("digits", tmp_path, reading=Reading(fonts=tmp_path))


def test_names_with_a_colon_inside_are_names():
    assert catalogue.dataset_entry("glyphs:digits").name == catalogue.own_name("glyphs:digits") == "glyphs:digits"
    assert not catalogue.dataset_entry("glyphs:digits").takes_path
    with pytest.raises(PactlError, match="'glyphs:' is not known"):
        catalogue.dataset_entry("glyphs:letters")
    with pytest.raises(PactlError, match="names no path"):
        catalogue.dataset_entry("npz:")


def test_threads_do_not_change_a_byte(tmp_path):
    code = (
        "from pactl_cli.data.glyphs import drawing\n"
        "from pactl_cli.data.reading import Reading\n"
        "drawing._TRAIN, drawing._TEST = 300, 50\n"
        "print(drawing.load_digits('x', None, lambda a, b: None, reading=Reading()).train.sha256())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for threads in ("1", "2")
    ]
    found = [process.communicate() for process in processes]
    assert len(found[0][0].strip()) == 64, found
    assert found[0] == found[1]


def test_what_was_trained_on_drawings_assumes_that_they_were_not_drawn_after_the_examples():
    drawn: Any = SimpleNamespace(lineage=(Training("glyphs:digits,digits"), Training("glyphs:digits")))
    other: Any = SimpleNamespace(lineage=(Training("svhn28"),))
    (sentence,) = _on_its_lineage(drawn, "mnist")
    assert sentence == catalogue.DATASETS["glyphs:digits"].assumes
    assert sentence.endswith("and not on the examples that are counted.")
    assert not list(_on_its_lineage(other, "mnist"))


def test_fonts_that_a_run_names_are_told_and_never_read_in_itself(tmp_path):
    run: Any = SimpleNamespace(path=tmp_path / "run")
    settings = TrainSettings(dataset="glyphs", fonts=tmp_path / "fonts")
    place = place_of_data(run, settings, Named(), only_read=True)
    named = f'"{tmp_path / "fonts"}", a path that the run names'
    assert place.in_words() == f"glyphs, drawn by pactl with the fonts in {named}"
    inside = settings.model_copy(update={"fonts": run.path / "fonts"})
    with pytest.raises(PactlError, match="has its fonts inside itself"):
        place_of_data(run, inside, Named(), only_read=True)


@pytest.mark.parametrize("name", ["glyphs", "digits,glyphs:digits"])
def test_what_drawings_were_tuned_on_is_not_certified_from_them(name):
    start: Any = SimpleNamespace(lineage=(Training(name),), origin="drawn")
    with pytest.raises(PactlError, match="the program that draws it was tuned on digits"):
        require_unrelated(start, TrainSettings(dataset="digits"))
    require_unrelated(start, TrainSettings(dataset="mnist"))


# --- scikit-learn's digits, drawn anew --------------------------------------------------------------------------------


def test_digits_drawn_anew_are_known_to_the_bit(few, tmp_path):
    digits = load_dataset("digits28", tmp_path)
    assert [part.sha256()[:16] for part in digits.parts] == ["1548852ba4409d65", "9b8f90f24731f180"]
    assert digits.train.resident().images.shape == (600, 1, 28, 28)
    assert np.bincount(digits.train.labels.numpy(), minlength=10).tolist() == [60] * 10


def test_each_part_is_drawn_after_its_own_part_of_the_small_digits(few, tmp_path, monkeypatch):
    digits: Any = load_dataset("digits", tmp_path)
    small = digits.each(lambda examples: examples[torch.arange(100)])
    monkeypatch.setattr(drawing, "load_small_digits", lambda *_: small)
    ours = load_dataset("digits28", tmp_path)
    blank = Examples(torch.zeros_like(small.test.images), small.test.labels)
    blank.images[:, :, 2:6, 2:6] = 255
    monkeypatch.setattr(drawing, "load_small_digits", lambda *_: Dataset("digits", 10, small.train, blank))
    other = load_dataset("digits28", tmp_path)
    assert ours.train.sha256() == other.train.sha256()
    assert ours.test is not None
    assert other.test is not None
    assert ours.test.sha256() != other.test.sha256()


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (TrainSettings, {}),
        (TrainSettings, {"intrinsic_dim": 20}),
        (TransferSettings, {"source": "run", "intrinsic_dim": 0}),
        (PriorSettings, {"intrinsic_dim": 0}),
    ],
)
def test_digits_drawn_anew_make_a_source_only(settings, options):
    """Many drawings show the same digit, so they are not independent draws."""
    with pytest.raises(PactlError, match="no independent draws"):
        settings.parse({"dataset": "digits28"} | options)
    assert TrainSettings.parse({"dataset": "digits28", "intrinsic_dim": 0}).dataset == "digits28"


@pytest.mark.parametrize(
    ("source", "target"), [("digits28", "digits"), ("digits", "digits28"), ("glyphs,digits28", "digits")]
)
def test_digits_are_never_told_from_their_drawings(source, target):
    start: Any = SimpleNamespace(lineage=(Training(source),), origin="drawn")
    with pytest.raises(PactlError, match="which has some of its images"):
        require_unrelated(start, TrainSettings(dataset=target, intrinsic_dim=0))
    require_unrelated(start, TrainSettings(dataset="mnist"))
