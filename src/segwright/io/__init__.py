"""Images and label maps in files: one reader-writer per format family, and the registry that picks one."""

from segwright.io.image import Image, ImageReaderWriter
from segwright.io.registry import choose_reader, reader_named, readers_for

__all__ = ["Image", "ImageReaderWriter", "choose_reader", "reader_named", "readers_for"]
