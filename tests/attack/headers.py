"""Images whose headers lie: of the values' scale, of place and size, of units, of how much there is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from attack.commands import CHECK, OVERWRITE, PREDICT
from attack.engine import Attack, Expectation, answered
from attack.place import Place, edit_json
from attack.runner import Outcome
from damage import PIXDIM, QFORM_CODE, QUATERN, SLOPE, SROW, absurd_nifti, gzipped, with_fields, wrong_gzip

FAMILY = "headers"
CASE = "ballTr_000"
UNITS, DIM4 = 123, 48
Fields = tuple[tuple[int, str, tuple[float, ...]], ...]
_IDENTITY = (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
_COS, _SIN = float(np.cos(0.3)), float(np.sin(0.3))
NAN, INF = float("nan"), float("inf")
# Said to be wrong by check, at least as a warning.
LIES: dict[str, Fields] = {
    "slope-zero": ((SLOPE, "<2f", (0.0, 5.0)),),
    "slope-nan": ((SLOPE, "<2f", (NAN, 0.0)),),
    "slope-inf": ((SLOPE, "<2f", (INF, 0.0)),),
    "slope-minus-inf": ((SLOPE, "<2f", (-INF, 0.0)),),
    "intercept-nan": ((SLOPE, "<2f", (1.0, NAN)),),
    "intercept-inf": ((SLOPE, "<2f", (1.0, INF)),),
    "slope-1e-30": ((SLOPE, "<2f", (1e-30, 0.0)),),
    "pixdim-against-sform": ((PIXDIM + 4, "<3f", (2.0, 2.0, 2.0)), (QFORM_CODE, "<h", (0,))),
    "pixdim-against-sform-one-axis": ((PIXDIM + 12, "<f", (4.0,)), (QFORM_CODE, "<h", (0,))),
    "units-meters": ((UNITS, "<B", (1,)),),
    "units-microns": ((UNITS, "<B", (3,)),),
    "units-strange": ((UNITS, "<B", (7,)),),
    "qform-against-sform": ((QFORM_CODE, "<2h", (1, 1)), (QUATERN, "<6f", (0, 0, 0.7071, 50, 60, 70))),
    "sheared": ((SROW, "<12f", (1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)), (QFORM_CODE, "<h", (0,))),
    "origin-far": ((SROW, "<12f", (1, 0, 0, 1e8, 0, 1, 0, 0, 0, 0, 1, 0)), (QFORM_CODE, "<h", (0,))),
}
# Odd but true: the prediction has the same geometry, to the bit.
ODD: dict[str, Fields] = {
    "sform-only": ((SROW, "<12f", _IDENTITY), (QFORM_CODE, "<2h", (0, 1))),
    "qform-only": ((QFORM_CODE, "<2h", (1, 0)),),
    "neither": ((QFORM_CODE, "<2h", (0, 0)),),
    "oblique": (
        (SROW, "<12f", (_COS, -_SIN, 0, 1.1, _SIN, _COS, 0, -2.3, 0, 0, 1, 7.7)),
        (QFORM_CODE, "<2h", (0, 1)),
    ),
    "oblique-twice": (
        (
            SROW,
            "<12f",
            (_COS, -_SIN * _COS, _SIN * _SIN, 1 / 3, _SIN, _COS * _COS, -_COS * _SIN, 0.1, 0, _SIN, _COS, -1e-3),
        ),
        (QFORM_CODE, "<2h", (0, 1)),
    ),
    "thirds": (
        (SROW, "<12f", (1 / 3, 0, 0, 0.1, 0, 1 / 3, 0, 0.2, 0, 0, 1.2345678, 0.3)),
        (PIXDIM + 4, "<3f", (1 / 3, 1 / 3, 1.2345678)),
        (QFORM_CODE, "<2h", (0, 1)),
    ),
    "left-handed": ((SROW, "<12f", (-1, 0, 0, 5, 0, 1, 0, 5, 0, 0, 1, 5)), (QFORM_CODE, "<2h", (0, 1))),
    "flipped": ((SROW, "<12f", (-1, 0, 0, 5, 0, -1, 0, 5, 0, 0, -1, 5)), (QFORM_CODE, "<2h", (0, 1))),
    "axes-swapped": ((SROW, "<12f", (0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0)), (QFORM_CODE, "<2h", (0, 1))),
    "template-code": ((QFORM_CODE, "<2h", (0, 4)),),
    "codes-differ": ((QFORM_CODE, "<2h", (2, 3)),),
    "qform-rotated": ((QFORM_CODE, "<2h", (1, 0)), (QUATERN, "<6f", (0.1, 0.2, 0.3, 1.5, 2.5, 3.5))),
    "qfac-minus": ((QFORM_CODE, "<2h", (1, 0)), (PIXDIM, "<f", (-1.0,))),
    "qfac-5": ((QFORM_CODE, "<2h", (1, 0)), (PIXDIM, "<f", (5.0,))),
    "qfac-zero": ((QFORM_CODE, "<2h", (1, 0)), (PIXDIM, "<f", (0.0,))),
    "units-unknown": ((UNITS, "<B", (0,)),),
    "units-with-time": ((UNITS, "<B", (10,)),),
    "slope-2": ((SLOPE, "<2f", (2.0, -7.0)),),
    "slope-1e30": ((SLOPE, "<2f", (1e30, 0.0)),),
    "slope-minus": ((SLOPE, "<2f", (-1.0, 0.0)),),
    "toffset": ((136, "<f", (3.5,)),),
    "dim-info": ((39, "<B", (57,)),),
    "calibrated": ((124, "<2f", (1e9, -1e9)),),
    "pixdim-rounded": ((PIXDIM + 4, "<3f", (1.0000001, 0.9999999, 1.0)),),
    "tiny-origin": ((SROW, "<12f", (1, 0, 0, 1e-30, 0, 1, 0, -1e-38, 0, 0, 1, 0)), (QFORM_CODE, "<2h", (0, 1))),
}
NAMED = Expectation(frozenset({0, 2}), (CASE,))


def attacks() -> Iterator[Attack]:
    """Each lie in a training image and in its label map; each oddity in an image to predict."""
    for what, fields in LIES.items():
        prepare = partial(_change_training, fields=fields, kinds=("imagesTr",))
        yield Attack(f"{what}-check", FAMILY, CHECK, NAMED, prepare)
        both = partial(_change_training, fields=fields, kinds=("imagesTr", "labelsTr"))
        yield Attack(f"{what}-in-both-check", FAMILY, CHECK, NAMED, both)
    # the reader to compare with refuses these two
    to_predict = {what: fields for what, fields in {**ODD, **LIES}.items() if not what.startswith("intercept")}
    for what, fields in to_predict.items():
        for reader in ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"):
            prepare = partial(_change_test, fields=fields, reader=reader)
            # a lie may be refused, for the one case
            expect = Expectation(frozenset({0, 1}))
            yield Attack(f"{what}-{reader}-predict", FAMILY, PREDICT, expect, prepare, check=_same_geometry)
    yield from _text_headers()
    yield from _specimens()


def _change_training(place: Place, *, fields: Fields, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        path = place.raw / kind / f"{CASE}{'_0000' if kind == 'imagesTr' else ''}.nii.gz"
        path.write_bytes(gzipped(with_fields(gzip.decompress(path.read_bytes()), *fields)))


def _change_test(place: Place, *, fields: Fields, reader: str) -> None:
    path = place.raw / "imagesTs/ballTs_000_0000.nii.gz"
    path.write_bytes(gzipped(with_fields(gzip.decompress(path.read_bytes()), *fields)))
    # in every file that holds the plan, so that they still belong together
    place.edit_plan(lambda plan, _: plan.update(image_reader_writer=reader), place.model / "plans.json")
    import torch

    for checkpoint in place.fold.glob("checkpoint_*.pth"):
        value = torch.load(checkpoint, weights_only=False)  # made by ourselves a moment ago
        value["init_args"]["plans"]["image_reader_writer"] = reader
        value.get("segwright", {}).pop("digest", None)
        torch.save(value, checkpoint)


def _same_geometry(place: Place, outcome: Outcome) -> str | None:
    """Each voxel of a written label map lies where the image's does, to the bit, by a reader that is not ours."""
    import nibabel

    written = sorted(place.out.glob("*.nii.gz"))
    if len(written) != 2 - (outcome.code == 1):
        return f"{len(written)} label maps"
    for path in written:
        image = nibabel.load(place.raw / "imagesTs" / path.name.replace(".nii.gz", "_0000.nii.gz"))
        label_map = nibabel.load(path)
        if image.shape != label_map.shape:
            return f"{path.name}: shape {label_map.shape} of an image of {image.shape}"
        if not np.array_equal(image.affine, label_map.affine):
            return f"{path.name}: affine {label_map.affine.tolist()} of an image with {image.affine.tolist()}"
        if not np.array_equal(np.unique(label_map.get_fdata() % 1), [0]):
            return f"{path.name}: labels that are no whole numbers"
    return None


# ---------------------------------------------------------------------------------------------- NRRD, MetaImage


def _text_headers() -> Iterator[Attack]:
    changes: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "nrrd-more-voxels": (".nrrd", _replaced(b"sizes: 22 24 20", b"sizes: 22 24 19")),
        "nrrd-fewer-voxels": (".nrrd", _replaced(b"sizes: 22 24 20", b"sizes: 22 24 21")),
        "nrrd-bit-in-sizes": (".nrrd", _replaced(b"sizes:", b"sizds:")),
        "nrrd-bit-in-directions": (".nrrd", _replaced(b"space directions:", b"space directionr:")),
        "nrrd-bit-in-origin": (".nrrd", _replaced(b"space origin:", b"space orhgin:")),
        "nrrd-bit-in-space": (".nrrd", _replaced(b"space: left", b"spacd: left")),
        "nrrd-bit-in-kinds": (".nrrd", _replaced(b"kinds:", b"kines:")),
        "nrrd-bit-in-type": (".nrrd", _replaced(b"type:", b"typd:")),
        "nrrd-directions-twice": (".nrrd", _replaced(b"kinds:", b"space directions: (9,0,0) (0,9,0) (0,0,9)\nkinds:")),
        "nrrd-detached": (".nrrd", _replaced(b"kinds:", b"data file: /etc/passwd\nkinds:")),
        "mha-more-voxels": (".mha", _replaced(b"DimSize = 22 24 20", b"DimSize = 22 24 19")),
        "mha-fewer-voxels": (".mha", _replaced(b"DimSize = 22 24 20", b"DimSize = 22 24 21")),
        "mha-bit-in-spacing": (".mha", _replaced(b"ElementSpacing", b"ElementSpacinf")),
        "mha-bit-in-offset": (".mha", _replaced(b"Offset =", b"Offsdt =")),
        "mha-bit-in-matrix": (".mha", _replaced(b"TransformMatrix", b"TransformMatriy")),
        "mha-bit-in-size": (".mha", _replaced(b"DimSize", b"DimSizd")),
        "mha-bit-in-type": (".mha", _replaced(b"ElementType", b"ElementTypd")),
        "mha-spacing-twice": (".mha", _replaced(b"DimSize", b"ElementSpacing = 9 9 9\nDimSize")),
        "mha-elsewhere": (".mha", _replaced(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd")),
    }
    for what, (ending, change) in changes.items():
        prepare = partial(_in_other_format, ending=ending, change=change)
        expect = NAMED if what != "nrrd-bit-in-kinds" else answered()
        yield Attack(f"{what}-check", FAMILY, CHECK, expect, prepare)


def _replaced(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        if before not in content:
            raise ValueError(f"{before!r} is not in the header {content[:400]!r}")
        return content.replace(before, after, 1)

    return change


def _in_other_format(place: Place, *, ending: str, change: Callable[[bytes], bytes]) -> None:
    """The whole data set in another format, uncompressed, with spacings and origin of its own; one header changed."""
    import SimpleITK

    for kind in ("imagesTr", "labelsTr"):
        for path in sorted((place.raw / kind).glob("*.nii.gz")):
            image = SimpleITK.ReadImage(str(path))
            for key in image.GetMetaDataKeys():  # NIfTI's own, which other formats warn about
                image.EraseMetaData(key)
            image.SetSpacing((0.7, 0.8, 2.5))
            image.SetOrigin((-10.5, 20.25, 30.125))
            SimpleITK.WriteImage(image, str(path.with_name(path.name.replace(".nii.gz", ending))), useCompression=False)
            path.unlink()
    edit_json(place.raw / "dataset.json", lambda value: {**value, "file_ending": ending})
    path = place.raw / f"imagesTr/{CASE}_0000{ending}"
    path.write_bytes(change(path.read_bytes()))


# ---------------------------------------------------------------------------------------------- hundreds of files


def _specimens() -> Iterator[Attack]:
    """The damaged NIfTI files that the readers are tested with, all in one data set."""
    for verb, argv in (("check", CHECK), ("preprocess", OVERWRITE)):
        yield Attack(
            f"hundreds-of-damaged-files-{verb}",
            FAMILY,
            argv,
            Expectation(frozenset({1, 2})),
            _many,
            cpu_seconds=120,
            wall_seconds=400,
        )
    yield Attack(
        "hundreds-of-damaged-files-predict",
        FAMILY,
        (*PREDICT, "--json"),
        Expectation(frozenset({1})),
        partial(_many, folder="imagesTs"),
        check=_others_done,
        cpu_seconds=120,
        wall_seconds=400,
    )


def _many(place: Place, *, folder: str = "imagesTr") -> None:
    refused = [
        specimen
        for specimen in (*absurd_nifti(), *wrong_gzip())
        if specimen.ending == ".nii.gz" and specimen.verdict == "refused"
    ]
    label_map = (place.raw / f"labelsTr/{CASE}.nii.gz").read_bytes()
    for number, specimen in enumerate(refused):
        (place.raw / folder / f"bad_{number:03d}_0000.nii.gz").write_bytes(specimen.content)
        if folder == "imagesTr":
            (place.raw / f"labelsTr/bad_{number:03d}.nii.gz").write_bytes(label_map)


def _others_done(place: Place, outcome: Outcome) -> str | None:
    answer = json.loads(outcome.out)
    return None if answer["done"] == ["ballTs_000", "ballTs_001"] else f"done: {answer['done']}"
