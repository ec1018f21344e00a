"""The mark on generated video that says it is synthetic.

Two marks in the metadata of the mp4: an XMP packet in a top-level `uuid` box (Adobe, XMP specification part 3) whose
`Iptc4xmpExt:DigitalSourceType` is IPTC's term for media made by a trained model, and the same in plain words as the
file's comment. `dyconv.infp.film` is the only writer of generated video, and no film is finished without both.

C2PA is not used: a claim needs a signature by somebody who vouches for it. A key that comes with open source code is in
everybody's hands, and a certificate made on the spot is shown as not trusted. Whoever publishes what was generated can sign the
file with their own certificate; the source type below is what a C2PA action names too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import dyconv
from dyconv.errors import StoreError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the `uuid` that says: this box holds XMP
COMMENT = f"AI-generated: a portrait animated by dyconv {dyconv.__version__} (INFP). {SOURCE_TYPE}"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LONGEST = 1 << 20  # bytes of a packet that is read: ours has a thousandth of it


@dataclass(frozen=True)
class Mark:
    """What a file says about where it comes from: IPTC's digital source type (a URL), and the program that made it."""

    source_type: str
    tool: str


def packet() -> bytes:
    """The XMP packet: the same bytes for every film of one version."""
    tool = quoteattr(f"dyconv {dyconv.__version__} (INFP)")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about="" xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}"\n'
        f'   xmp:CreatorTool={tool} Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>\n'
        " </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    ).encode()


def append_mark(path: Path) -> None:
    """Write the XMP packet behind the last box of an mp4 file: no offset in it changes."""
    body = XMP_BOX + packet()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(body), b"uuid") + body)


def read_mark(path: Path) -> Mark | None:
    """The mark in the XMP packet of an mp4 file; None where there is none.

    Raises:
        StoreError: if the file is not an mp4 file, or its packet is not XMP.
    """
    with path.open("rb") as file:
        for kind, start, size in _boxes(file, path):
            if kind != b"uuid" or not len(XMP_BOX) < size <= _LONGEST:
                continue
            file.seek(start)
            body = file.read(size)
            if body.startswith(XMP_BOX):
                return _parsed(body[len(XMP_BOX) :], path)
    return None


def _boxes(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of what is in it, number of bytes) of the top-level boxes (ISO/IEC 14496-12, 4.2)."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0], 16
        size = size or end - at
        if size < head or (at == 0 and kind != b"ftyp"):
            raise StoreError(f"{path} is not an mp4 file: found {kind!r} of {size} bytes at byte {at}")
        yield kind, at + head, size - head
        at += size


def _parsed(xml: bytes, path: Path) -> Mark | None:
    if b"<!" in xml:  # document types and entities have no place in XMP, and can make a parser expand without end
        raise StoreError(f"{path}: its XMP packet declares a document type")
    try:
        root = ElementTree.fromstring(xml.decode().strip("\ufeff\0 \r\n"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: its XMP packet is not XML: {error}") from error
    for node in root.iter(f"{{{_RDF}}}Description"):
        if found := node.get(f"{{{_IPTC}}}DigitalSourceType"):
            return Mark(found, node.get(f"{{{_XMP}}}CreatorTool", ""))
    return None
