"""Checkpoints that are damaged, foreign or hostile, and other files of a model."""

from __future__ import annotations

import io
import os
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attack.commands import CONTINUE, PREDICT, REPORT, TRAIN_0, TRAIN_1, Prepare
from attack.engine import Attack, answered, done, refused, warned
from attack.place import Place
from attack.runner import Outcome

FAMILY = "checkpoints"
FINAL, LATEST, BEST = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"
BOMB_BYTES = 3 << 30
ODD: dict[str, Any] = {"none": None, "nan": float("nan"), "text": "\x1b[31mred", "list": []}
KEYS = (
    "network_weights",
    "optimizer_state",
    "grad_scaler_state",
    "logging",
    "_best_ema",
    "current_epoch",
    "init_args",
    "init_args/plans",
    "init_args/configuration",
    "init_args/fold",
    "init_args/dataset_json",
    "init_args/device",
    "trainer_name",
    "inference_allowed_mirroring_axes",
    "segwright",
    "segwright/trainer",
    "segwright/budget",
    "segwright/step",
    "segwright/train_losses",
    "segwright/torch_rng_state",
    "optimizer_state/state",
    "optimizer_state/param_groups",
    "logging/train_losses",
    "logging/mean_fg_dice",
)
_READ_TO_PREDICT = {
    *("network_weights", "init_args", "init_args/configuration", "init_args/plans", "init_args/dataset_json"),
    *("trainer_name", "inference_allowed_mirroring_axes", "segwright", "segwright/trainer"),
}


def attacks() -> Iterator[Attack]:
    """Damage that a checksum knows, contents of the wrong kind, and files that would run code."""
    yield from _damaged()
    yield from _odd_contents()
    yield from _hostile()
    yield from _other_files()


# ---------------------------------------------------------------------------------------------- damage


def _damaged() -> Iterator[Attack]:
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "zeros": zeros_in_the_weights,
        "one-bit": one_bit_of_the_weights,
        "half": lambda content: content[: len(content) // 2],
        "without-last-byte": lambda content: content[:-1],
        "empty": lambda content: b"",
        "text": lambda content: b"<html>404 Not found</html>",
        "all-zeros": lambda content: bytes(len(content)),
        "directory-twice": lambda content: content + content[-2000:],
        "long-tail": lambda content: content + b"\0" * 5000,
        "swapped-halves": lambda content: content[len(content) // 2 :] + content[: len(content) // 2],
    }
    for what, damage in kinds.items():
        # a tail after a whole archive does no harm
        expect = answered() if what in ("directory-twice", "long-tail") else refused(FINAL)
        yield Attack(f"final-{what}-predict", FAMILY, PREDICT, expect, changed(FINAL, damage))
        falls_back = answered() if what in ("directory-twice", "long-tail") else warned(LATEST, BEST)
        yield Attack(f"latest-{what}-continue", FAMILY, CONTINUE, falls_back, together_latest(damage))
        expect = answered() if what in ("directory-twice", "long-tail") else refused(LATEST)
        yield Attack(f"only-latest-{what}-continue", FAMILY, CONTINUE, expect, together_latest(damage, alone=True))
    yield Attack("final-zeros-continue", FAMILY, CONTINUE, warned(FINAL, BEST), changed(FINAL, zeros_in_the_weights))
    yield Attack(
        "bits-anywhere-predict",
        FAMILY,
        PREDICT,
        answered(),
        changed(FINAL, bits_anywhere),
        check=same_as_undamaged,
    )
    for number in range(8):
        yield Attack(
            f"bit-{number}-predict",
            FAMILY,
            PREDICT,
            answered(),
            changed(FINAL, partial(one_bit, seed=number)),
            check=same_as_undamaged,
        )
    yield Attack("nan-weights-predict", FAMILY, PREDICT, refused(), edited(FINAL, _nan_weights))
    yield Attack("nan-weights-continue", FAMILY, CONTINUE, refused(), edited(FINAL, _nan_weights, alone=True))
    yield Attack("missing-final-predict", FAMILY, PREDICT, refused(FINAL), lambda place: os.remove(place.fold / FINAL))
    yield Attack("final-is-a-folder", FAMILY, PREDICT, refused(FINAL), _folder_instead)
    yield Attack("final-is-a-pipe", FAMILY, PREDICT, refused(FINAL), _pipe_instead)
    yield Attack("final-is-a-loop", FAMILY, PREDICT, refused(FINAL), _loop_instead)
    yield Attack(
        "named-checkpoint",
        FAMILY,
        ("train", "1", "3d_fullres", "0", "--epochs", "2", "--checkpoint", "{fold}/" + BEST, *CONTINUE[6:]),
        done(),
    )


def whole_data(content: bytes) -> tuple[int, int]:
    """Where the longest entry of an archive begins and ends."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size if "/data/" in entry.filename else -1)
        header = content[entry.header_offset : entry.header_offset + 30]
        lengths = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
        start = entry.header_offset + 30 + sum(lengths)
        return start, start + entry.compress_size


def zeros_in_the_weights(content: bytes) -> bytes:
    start, stop = whole_data(content)
    length = min(4096, stop - start)
    return content[:start] + bytes(length) + content[start + length :]


def one_bit_of_the_weights(content: bytes) -> bytes:
    start, _ = whole_data(content)
    return content[: start + 3] + bytes([content[start + 3] ^ 64]) + content[start + 4 :]


def one_bit(content: bytes, seed: int) -> bytes:
    place = random.Random(seed).randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << seed % 8]) + content[place + 1 :]


def bits_anywhere(content: bytes) -> bytes:
    for seed in range(30):
        content = one_bit(content, seed)
    return content


def changed(name: str, damage: Callable[[bytes], bytes]) -> Prepare:
    """A checkpoint of the fold with other bytes."""

    def prepare(place: Place) -> None:
        path = place.fold / name
        path.write_bytes(damage(path.read_bytes()))

    return prepare


def together_latest(damage: Callable[[bytes], bytes], *, alone: bool = False) -> Prepare:
    """A fold whose training was stopped, with a damaged latest checkpoint and perhaps a whole one beside it."""

    def prepare(place: Place) -> None:
        unfinished(place)
        changed(LATEST, damage)(place)
        if alone:
            (place.fold / BEST).unlink()

    return prepare


def unfinished(place: Place) -> None:
    """Let the training look as if it was stopped after its first epoch."""
    (place.fold / FINAL).rename(place.fold / LATEST)
    shutil.rmtree(place.fold / "validation")


def same_as_undamaged(place: Place, outcome: Outcome) -> str | None:
    """A prediction that was not refused must be that of the whole checkpoint."""
    if outcome.code != 0:
        return None
    best = place.try_to_run(*PREDICT[:2], "{workspace}/again", *PREDICT[3:], "--checkpoint", BEST)
    if best.code != 0:
        return f"the comparison failed: {best.text}"
    # after one epoch the best checkpoint has the weights of the last
    return same_label_maps(place.out, place.workspace / "again")


def same_label_maps(one: Path, other: Path) -> str | None:
    """What differs between the label maps of two folders."""
    import SimpleITK

    names = sorted(path.name for path in other.glob("*.nii.gz"))
    if names != sorted(path.name for path in one.glob("*.nii.gz")):
        return f"other cases in {one.name} than {names}"
    read = [
        [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / name))) for name in names]
        for folder in (one, other)
    ]
    differing = [name for name, a, b in zip(names, *read, strict=True) if (a != b).any()]
    return f"other label maps: {', '.join(differing)}" if differing else None


def _folder_instead(place: Place) -> None:
    (place.fold / FINAL).unlink()
    (place.fold / FINAL).mkdir()


def _pipe_instead(place: Place) -> None:
    (place.fold / FINAL).unlink()
    os.mkfifo(place.fold / FINAL)


def _loop_instead(place: Place) -> None:
    (place.fold / FINAL).unlink()
    (place.fold / FINAL).symlink_to(place.fold / FINAL)


# ---------------------------------------------------------------------------------------------- odd contents


def edited(name: str, change: Callable[[dict[str, Any]], Any], *, alone: bool = False) -> Prepare:
    """A checkpoint that was read, changed and written again, as by another program."""

    def prepare(place: Place) -> None:
        import torch

        path = place.fold / name
        value = torch.load(path, weights_only=False)  # made by ourselves a moment ago
        replaced = change(value)
        torch.save(value if replaced is None else replaced, path)
        if alone:
            for other in place.fold.glob("checkpoint_*"):
                if other != path:
                    other.unlink()

    return prepare


def _nan_weights(checkpoint: dict[str, Any]) -> None:
    for tensor in checkpoint["network_weights"].values():
        tensor.fill_(float("nan"))


def _odd_contents() -> Iterator[Attack]:
    for key in KEYS:
        for what, value in {"missing": _MISSING, **ODD}.items():
            prepare = edited(FINAL, partial(_put, way=key, value=value), alone=True)
            name = key.replace("/", ".")
            yield Attack(f"odd-{name}-{what}-continue", FAMILY, CONTINUE, answered(), prepare)
            if key in _READ_TO_PREDICT:
                yield Attack(f"odd-{name}-{what}-predict", FAMILY, PREDICT, answered(), prepare)
    for what, content in {"list": [1, 2], "text": "abc", "empty": {}, "number": 3}.items():
        prepare = edited(FINAL, partial(_instead, content=content))
        yield Attack(f"other-content-{what}", FAMILY, PREDICT, refused(FINAL), prepare)
    weights: dict[str, Callable[[dict[Any, Any]], Any]] = {
        "a-missing-tensor": lambda weights: weights.pop(next(iter(weights))),
        "a-renamed-tensor": lambda weights: weights.update(other=weights.pop(next(iter(weights)))),
        "one-too-many": lambda weights: weights.update(other=next(iter(weights.values()))),
        "a-number": lambda weights: weights.update({next(iter(weights)): 3}),
        "other-shape": lambda weights: weights.update({next(iter(weights)): next(iter(weights.values()))[:1]}),
        "whole-numbers": lambda weights: weights.update({k: v.long() for k, v in weights.items()}),
        "complex": lambda weights: weights.update({k: v + 1j for k, v in weights.items()}),
        "sparse": lambda weights: weights.update({k: v.to_sparse() for k, v in weights.items()}),
        "keys-of-numbers": lambda weights: weights.update({3: next(iter(weights.values()))}),
        "meta": lambda weights: weights.update({k: v.to("meta") for k, v in weights.items()}),
        "expanded": lambda weights: weights.update({k: v.flatten()[:1].expand(v.shape) for k, v in weights.items()}),
    }
    for what, change in weights.items():
        prepare = edited(FINAL, partial(_change_weights, change=change), alone=True)
        expect = answered() if what == "expanded" else refused(FINAL)
        for verb, argv in (("predict", PREDICT), ("continue", CONTINUE)):
            yield Attack(f"weights-{what}-{verb}", FAMILY, argv, expect, prepare)


def _change_weights(checkpoint: dict[str, Any], *, change: Callable[[dict[Any, Any]], Any]) -> None:
    change(checkpoint["network_weights"])


def _instead(_: dict[str, Any], *, content: Any) -> Any:
    return content


_MISSING = object()


def _put(checkpoint: dict[str, Any], *, way: str, value: Any) -> None:
    *above, key = way.split("/")
    inner = checkpoint
    for step in above:
        inner = inner[step]
    if value is _MISSING:
        inner.pop(key, None)
    else:
        inner[key] = value


# ---------------------------------------------------------------------------------------------- code and bombs


class _Calls:
    """An object whose pickle makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _hostile() -> Iterator[Attack]:
    files: dict[str, Callable[[Place], bytes]] = {
        "pickle": lambda place: pickle.dumps(_Calls(place.outside / "run")),
        "pickle-2": lambda place: pickle.dumps({"network_weights": _Calls(place.outside / "run")}, protocol=2),
        "archive": lambda place: _archive(place, {"network_weights": {"a": _Calls(place.outside / "run")}}),
        "archive-of-getattr": lambda place: _archive_of(place, b"cbuiltins\neval\n(Vprint(1)\ntR."),
        "archive-of-escape": lambda place: _archive_of(place, b"cos\x1b[31m\nsystem\n(Vid\ntR."),
        "archive-of-import": lambda place: _archive_of(place, b"cantigravity\nx\n."),
        "tar": lambda place: b"storages" + bytes(1000),
    }
    for what, make in files.items():
        for verb, argv in (("predict", PREDICT), ("continue", CONTINUE)):
            prepare = partial(_only, make=make)
            yield Attack(f"code-{what}-{verb}", FAMILY, argv, refused(FINAL), prepare)
    yield Attack("code-in-properties", FAMILY, TRAIN_0, refused(), _code_in_properties)
    for verb, argv in (("predict", PREDICT), ("continue", CONTINUE)):
        yield Attack(f"bomb-{verb}", FAMILY, argv, refused(FINAL), partial(_bomb, name="data/0"))
        yield Attack(f"bomb-of-pickle-{verb}", FAMILY, argv, refused(FINAL), partial(_bomb, name="data.pkl"))
    yield Attack("bomb-beside", FAMILY, PREDICT, answered(), partial(_bomb, name="data/999"))
    for what, pickled in {"deep-pickle": _DEEP, "memo-bomb": _LAUGHS}.items():
        prepare = partial(_only, make=partial(_archive_of, pickled=pickled))
        yield Attack(what, FAMILY, PREDICT, refused(FINAL), prepare)


_DEEP = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
# lists of ten times the list before: 10^9 elements in a hundred bytes
_LAUGHS = (
    b"\x80\x02]q\x00(" + b"K\x01" * 10 + b"e"
    + b"".join(b"0]q" + bytes([n + 1]) + b"(" + (b"h" + bytes([n])) * 10 + b"e" for n in range(9)) + b"."
)  # fmt: skip


def _only(place: Place, *, make: Callable[[Place], bytes]) -> None:
    content = make(place)
    (place.fold / BEST).unlink()
    (place.fold / FINAL).write_bytes(content)


def _archive(place: Place, value: Any) -> bytes:
    return _archive_of(place, pickle.dumps(value, protocol=2))


def _archive_of(place: Place, pickled: bytes) -> bytes:
    """The final checkpoint with another pickle in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(place.fold / FINAL) as before, zipfile.ZipFile(content, "w") as after:
        for entry in before.infolist():
            data = pickled if entry.filename.endswith("/data.pkl") else before.read(entry)
            after.writestr(entry.filename, data)
    return content.getvalue()


def _bomb(place: Place, name: str) -> None:
    """The final checkpoint, packed, with one entry of gigabytes of zeros."""
    path = place.fold / FINAL
    (place.fold / BEST).unlink()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(path.with_suffix(".new"), "w", compresslevel=1) as after:
        entries = [entry.filename for entry in before.infolist()]
        top = entries[0].split("/")[0]
        for entry in entries:
            if entry != f"{top}/{name}":
                after.writestr(entry, before.read(entry))
        bomb = zipfile.ZipInfo(f"{top}/{name}")
        bomb.compress_type = zipfile.ZIP_DEFLATED
        with after.open(bomb, "w", force_zip64=True) as file:
            block = bytes(16 << 20)
            for _ in range(BOMB_BYTES // len(block)):
                file.write(block)
    path.with_suffix(".new").rename(path)


def _code_in_properties(place: Place) -> None:
    for path in place.store.glob("*.pkl"):
        path.write_bytes(pickle.dumps(_Calls(place.outside / "run")))


# ---------------------------------------------------------------------------------------------- other files


def _other_files() -> Iterator[Attack]:
    for what, content in {"empty": b"", "zeros": bytes(5000), "text": b"hello", "deep": b"[" * 100_000}.items():
        for name in ("ballTr_001.b2nd", "ballTr_001_seg.b2nd", "ballTr_001.pkl"):
            # several iterations, so that the case is drawn
            argv = (*TRAIN_1, "--iterations-per-epoch", "8")
            yield Attack(f"store-{name}-{what}", FAMILY, argv, answered(), _written("{store}/" + name, content))
        for name in ("plans.json", "dataset.json"):
            prepare = _written("{model}/" + name, content)
            yield Attack(f"model-{name}-{what}", FAMILY, PREDICT, refused(name), prepare)
        for name in ("training_log.jsonl", "settings.json", "validation/summary.json"):
            prepare = _written("{fold}/" + name, content)
            for verb, argv in (("report", REPORT), ("continue", CONTINUE)):
                yield Attack(f"fold-{name}-{what}-{verb}", FAMILY, argv, answered(), prepare)
    yield Attack("report-without-scores", FAMILY, REPORT, done(), _without_scores, check=_advises_to_continue)
    yield Attack("train-without-store", FAMILY, TRAIN_0, refused(), lambda place: shutil.rmtree(place.store))
    yield Attack(
        "train-without-preprocessed", FAMILY, TRAIN_0, refused(), lambda place: shutil.rmtree(place.preprocessed)
    )
    yield Attack("folds-twice", FAMILY, (*PREDICT, "--folds", "0", "0"), answered(), check=_same_as_one_fold)
    yield Attack("unknown-fold", FAMILY, (*PREDICT, "--folds", "7"), refused("7"))
    yield Attack("other-fold-names", FAMILY, (*PREDICT, "--folds", "0", "all"), refused("all"))
    yield Attack("results-of-strange-names", FAMILY, REPORT, answered(), _foreign_results)


def _written(name: str, content: bytes) -> Prepare:
    def prepare(place: Place) -> None:
        Path(place.words([name])[0]).write_bytes(content)

    return prepare


def _without_scores(place: Place) -> None:
    shutil.rmtree(place.fold / "validation")


def _advises_to_continue(place: Place, outcome: Outcome) -> str | None:
    """A new training would move the finished one aside."""
    page = (place.model / "report.html").read_text() + outcome.text
    advice = re.findall(r"segwright (?:train|run) [^<`\n]*", page)
    wrong = [command for command in advice if command.startswith("segwright train") and "--continue" not in command]
    return f"it advises: {wrong[0]}" if wrong else None


def _same_as_one_fold(place: Place, outcome: Outcome) -> str | None:
    if outcome.code != 0:
        return None
    place.run(*PREDICT[:2], "{workspace}/again", *PREDICT[3:])
    return same_label_maps(place.out, place.workspace / "again")


def _foreign_results(place: Place) -> None:
    for name in ("a__b__c", "x__nnUNetPlans__3d_fullres", "__nnUNetPlans__"):
        (place.results / name / "fold_0").mkdir(parents=True)
        (place.results / name / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
