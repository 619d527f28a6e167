"""What a file is by its first bytes, for the error that says what came instead of an image."""

from __future__ import annotations

from pathlib import Path

_SIGNATURES = {
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": "a pointer of git-lfs, whose file was not fetched",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"NRRD": "an NRRD file",
    b"ObjectType": "a MetaImage file",
    b"\x5c\x01\0\0": "a NIfTI file",
    b"\0\0\x01\x5c": "a NIfTI file",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy file",
    b"%PDF": "a PDF document",
}
_BEGINNING = 256


def describe_content(path: Path) -> str:
    """Describe the type of a file; empty and unknown files are described as such."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if not beginning:
        return "an empty file"
    for signature, kind in _SIGNATURES.items():
        if beginning.startswith(signature):
            return kind
    if beginning[128:132] == b"DICM":
        return "a DICOM file"
    if beginning.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if not beginning.strip(b"\0"):
        return "zeros"
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in beginning):
        return f"a text, {beginning[:40].decode('utf-8', 'replace')!r}"
    return "a file of another kind"
