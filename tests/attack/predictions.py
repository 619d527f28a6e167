"""Folders that hold predictions already: of another model, of another image, torn, or in the making."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

from attack.checkpoints import edited, same_label_maps
from attack.commands import PREDICT
from attack.engine import Attack, Expectation, answered, done, refused, some_fail
from attack.place import Place
from attack.runner import PROGRAM, Outcome

FAMILY = "predictions"
JSON = (*PREDICT, "--json")


def attacks() -> Iterator[Attack]:
    """What lies in OUTPUT counts as done only if this model made it of this image with these settings."""
    anew = partial(_answer, done=2, skipped=0)
    yield Attack("same-again", FAMILY, JSON, done(), _predicted, check=partial(_answer, done=0, skipped=2))
    yield Attack("other-model", FAMILY, JSON, done(), _other_model, check=anew)
    yield Attack("other-model-same-time", FAMILY, JSON, done(), partial(_other_model, same_time=True), check=anew)
    yield Attack("other-image", FAMILY, JSON, done(), _other_images, check=anew)
    yield Attack("other-image-same-time", FAMILY, JSON, done(), partial(_other_images, same_time=True), check=anew)
    yield Attack(
        "other-step-size",
        FAMILY,
        (*JSON, "--step-size", "0.3"),
        done(),
        _predicted,
        check=partial(anew, compares=False),
    )
    yield Attack(
        "other-checkpoint",
        FAMILY,
        (*JSON, "--checkpoint", "checkpoint_best.pth"),
        done(),
        _other_best,
        check=partial(anew, compares=False),
    )
    for what, content in {"empty": b"", "torn": None, "text": b"hello", "zeros": bytes(500)}.items():
        yield Attack(
            f"result-{what}",
            FAMILY,
            JSON,
            done(),
            partial(_damaged_result, content=content),
            check=partial(_answer, done=1, skipped=1),
        )
    yield Attack("result-removed", FAMILY, JSON, done(), _without_a_result, check=partial(_answer, done=1, skipped=1))
    yield Attack("all-notes-damaged", FAMILY, JSON, done(), _damaged_notes, check=same_as_alone)
    yield Attack("notes-are-folders", FAMILY, JSON, answered(), _notes_as_folders)
    yield Attack("someone-elses-label-map", FAMILY, JSON, refused("ballTs_000"), _foreign_result)
    yield Attack("one-bad-image", FAMILY, PREDICT, some_fail("bad"), _bad_image)
    yield Attack("no-images", FAMILY, PREDICT, refused(), _no_images, keeps_raw=False)
    yield Attack("input-is-a-file", FAMILY, ("predict", "{raw}/dataset.json", *PREDICT[2:]), refused())
    yield Attack("output-is-a-file", FAMILY, PREDICT, refused(), lambda place: place.out.write_bytes(b"x") and None)
    yield Attack("output-is-the-input", FAMILY, (*PREDICT[:2], "{raw}/imagesTs", *PREDICT[3:]), refused())
    yield Attack(
        "output-below-the-input",
        FAMILY,
        (*PREDICT[:2], "{raw}/imagesTs/out", *PREDICT[3:]),
        answered(),
        keeps_raw=False,
    )
    yield Attack("output-is-a-link-to-the-input", FAMILY, PREDICT, refused(), _linked_output)
    yield Attack("output-is-a-dangling-link", FAMILY, PREDICT, answered(), _dangling_output)
    yield Attack("link-among-the-results", FAMILY, JSON, answered(), _linked_result)
    two = Expectation(frozenset({0, 2}))
    yield Attack("two-at-once", FAMILY, JSON, two, drive=_second_process, check=_whole_results)
    yield Attack("killed-in-between", FAMILY, JSON, done(), _killed_before, check=same_as_alone)


def _predicted(place: Place) -> None:
    place.run(*PREDICT)


def _answer(place: Place, outcome: Outcome, *, done: int, skipped: int, compares: bool = True) -> str | None:
    """Compare what was done with what had to be, and the label maps with those of an empty folder."""
    answer = json.loads(outcome.out)
    found = len(answer["done"]), len(answer["skipped"])
    if found != (done, skipped):
        return f"{found[0]} cases were predicted and {found[1]} skipped, expected {done} and {skipped}"
    return same_as_alone(place, outcome) if compares else None


def same_as_alone(place: Place, outcome: Outcome) -> str | None:
    """The label maps must be those that the same command writes to an empty folder."""
    place.run(*PREDICT[:2], "{workspace}/alone", *PREDICT[3:])
    return same_label_maps(place.out, place.workspace / "alone")


def _other_model(place: Place, *, same_time: bool = False) -> None:
    _predicted(place)
    _negate_weights(place, "checkpoint_final.pth", same_time=same_time)


def _negate_weights(place: Place, name: str, *, same_time: bool = False) -> None:
    path = place.fold / name
    before = path.stat()

    def negate(checkpoint: dict) -> None:  # type: ignore[type-arg]
        for key, tensor in checkpoint["network_weights"].items():
            if "seg_layers" in key:
                tensor.neg_()

    edited(name, negate)(place)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_best(place: Place) -> None:
    _negate_weights(place, "checkpoint_best.pth")
    _predicted(place)


def _other_images(place: Place, *, same_time: bool = False) -> None:
    """The two images change their names: sizes differ, and with `same_time` the times do not."""
    _predicted(place)
    one, other = (place.raw / f"imagesTs/ballTs_00{number}_0000.nii.gz" for number in (0, 1))
    between = one.with_name("between")
    times = one.stat().st_mtime_ns, other.stat().st_mtime_ns
    one.rename(between)
    other.rename(one)
    between.rename(other)
    if same_time:
        for path, time in zip((one, other), times, strict=True):
            os.utime(path, ns=(time, time))


def _damaged_result(place: Place, *, content: bytes | None) -> None:
    _predicted(place)
    path = place.out / "ballTs_000.nii.gz"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)


def _without_a_result(place: Place) -> None:
    _predicted(place)
    (place.out / "ballTs_000.nii.gz").unlink()


def _damaged_notes(place: Place) -> None:
    """Everything but the label maps is damaged, whatever it is called."""
    _predicted(place)
    for path in place.out.rglob("*"):
        if path.is_file() and not path.name.endswith(".nii.gz"):
            path.write_bytes(b'{"a": [1')


def _notes_as_folders(place: Place) -> None:
    _predicted(place)
    for path in list(place.out.iterdir()):
        if path.is_file() and not path.name.endswith(".nii.gz"):
            path.unlink()
            path.mkdir()


def _foreign_result(place: Place) -> None:
    place.out.mkdir()
    shutil.copy(place.raw / "labelsTs/ballTs_001.nii.gz", place.out / "ballTs_000.nii.gz")


def _bad_image(place: Place) -> None:
    (place.raw / "imagesTs/bad_0000.nii.gz").write_bytes(b"no image")


def _no_images(place: Place) -> None:
    for path in (place.raw / "imagesTs").iterdir():
        path.unlink()


def _linked_output(place: Place) -> None:
    place.out.symlink_to(place.raw / "imagesTs")


def _dangling_output(place: Place) -> None:
    place.out.symlink_to(place.outside / "precious" / "new")


def _linked_result(place: Place) -> None:
    place.out.mkdir()
    (place.out / "ballTs_000.nii.gz").symlink_to(place.outside / "precious" / "case.nii.gz")


def _second_process(place: Place, process: subprocess.Popen[bytes]) -> None:
    """Start the same command once more at the same time, and wait for it."""
    second = subprocess.run(
        [*PROGRAM, *place.words(JSON)],
        env={**os.environ, **place.environ()},
        capture_output=True,
        timeout=100,
        check=False,
    )
    if second.returncode not in (0, 2):
        raise RuntimeError(f"the second process: exit code {second.returncode}\n{second.stderr.decode()}")


def _whole_results(place: Place, outcome: Outcome) -> str | None:
    left = [path.name for path in place.out.iterdir() if path.name.startswith(".segwright-")]
    return f"left behind: {', '.join(left)}" if left else same_as_alone(place, outcome)


def _killed_before(place: Place) -> None:
    """Leave what a killed process leaves."""
    _predicted(place)
    (place.out / "ballTs_001.nii.gz").unlink()
    (place.out / ".segwright-abcdefgh").mkdir()
    (place.out / ".segwright-abcdefgh" / "ballTs_001.nii.gz").write_bytes(b"half a label map")
