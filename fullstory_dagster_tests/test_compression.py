"""Unpacking: exact wherever it is cut, and never more than allowed."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from isal import igzip

from fullstory_dagster.compression import gunzip
from fullstory_dagster.errors import BundleFormatError, BundleIncompleteError, BundleTooLargeError

TEXT = b'{"EventType":"click"}\n' * 400
MIB = 1 << 20


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def bomb(n_mib: int, n_layers: int = 1) -> bytes:
    """Blanks that pack a thousandfold, and layers of it a million fold."""
    content = igzip.compress(b" " * MIB) * n_mib
    for _ in range(n_layers - 1):
        content = igzip.compress(content)
    return content


def unpacked(content: bytes, size: int = 65536, **options: int) -> bytes:
    return b"".join(gunzip(pieces(content, size), **options))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 65536])
@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(TEXT),
        gzip.compress(gzip.compress(TEXT)),
        gzip.compress(gzip.compress(gzip.compress(TEXT))),
        gzip.compress(TEXT[:1000]) + gzip.compress(b"") + gzip.compress(TEXT[1000:]),
        gzip.compress(TEXT) + bytes(1000),
        gzip.compress(TEXT[:1000]) + bytes(5) + gzip.compress(TEXT[1000:]),
        TEXT,
    ],
    ids=["once", "twice", "three times", "members", "zero padding", "zeros between members", "not at all"],
)
def test_the_same_bytes_come_out_wherever_the_stream_is_cut(packed: bytes, size: int) -> None:
    assert unpacked(packed, size) == TEXT


@pytest.mark.parametrize("content", [b"", b"[", b"\x1f", b"[]"])
def test_what_is_too_short_to_be_gzip_comes_out_as_it_is(content: bytes) -> None:
    assert unpacked(content, 1) == content


@pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB, MIB + 1, MIB + 258, 2 * MIB, 2 * MIB + 7])
@pytest.mark.parametrize("size", [1000, 65536])
def test_nothing_is_left_in_the_decompressor_when_a_piece_is_full(length: int, size: int) -> None:
    # Well packed data fills pieces of output long after its last byte of input was taken.
    assert unpacked(gzip.compress(bytes(length)), size) == bytes(length)


def test_no_piece_is_larger_than_a_mebibyte() -> None:
    assert max(len(piece) for piece in gunzip([gzip.compress(bytes(5 * MIB))])) <= MIB


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 40])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_that_ends_before_its_trailer_is_incomplete(missing: int, layers: int) -> None:
    packed = gzip.compress(TEXT)[:-missing]
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    with pytest.raises(BundleIncompleteError, match="trailer is missing"):
        unpacked(packed)


def test_a_second_member_that_is_cut_is_incomplete() -> None:
    with pytest.raises(BundleIncompleteError):
        unpacked(gzip.compress(TEXT) + gzip.compress(TEXT)[:-3])


@pytest.mark.parametrize("at", [-1, -6, 30])
def test_a_changed_byte_is_found(at: int) -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[at] ^= 0xFF
    with pytest.raises(BundleFormatError, match="corrupt within its first") as refused:
        unpacked(bytes(packed), 16)
    assert refused.value.byte_offset is not None


def test_anything_but_zeros_after_the_end_is_corrupt() -> None:
    with pytest.raises(BundleFormatError, match="corrupt"):
        unpacked(gzip.compress(TEXT) + b"trailing garbage")


def test_more_layers_than_anybody_packs_are_refused() -> None:
    packed = TEXT
    for _ in range(4):
        packed = gzip.compress(packed)
    with pytest.raises(BundleFormatError, match="more than 3 times"):
        unpacked(packed)


def test_the_limit_on_unpacked_bytes_is_exact_and_stops_early() -> None:
    assert len(unpacked(gzip.compress(bytes(10_000)), max_bytes=10_000)) == 10_000
    with pytest.raises(BundleTooLargeError, match="more than 9,999 bytes"):
        unpacked(gzip.compress(bytes(10_000)), max_bytes=9_999)

    # A thousandfold bomb: reading stops at the limit, not at the end.
    n_read = 0

    def counted() -> Iterator[bytes]:
        nonlocal n_read
        for piece in pieces(gzip.compress(bytes(64 * MIB)), 1000):
            n_read += 1
            yield piece

    with pytest.raises(BundleTooLargeError):
        for _ in gunzip(counted(), max_bytes=2 * MIB):
            pass
    assert n_read < 10


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_bomb_is_refused_by_its_ratio_before_it_grows(n_layers: int) -> None:
    got: list[int] = []
    with pytest.raises(BundleTooLargeError, match="more than 200 times its size") as caught:
        got.extend(map(len, gunzip(pieces(bomb(1024, n_layers), 65536), max_ratio=200)))
    assert caught.value.setting == "FULLSTORY_MAX_BUNDLE_RATIO"
    assert sum(got) <= 65 * MIB


def test_a_bomb_whose_layers_hold_nothing_in_the_end_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hundred thousand empty members: what comes out is nothing, and still somebody has to unpack them.
    monkeypatch.setattr("fullstory_dagster.compression._ANY_RATIO_BYTES", MIB)
    packed = igzip.compress(gzip.compress(b"", mtime=0) * 100_000)
    with pytest.raises(BundleTooLargeError):
        unpacked(packed, MIB, max_ratio=20)


def test_a_bundle_of_many_small_members_is_read_in_time_that_grows_with_it() -> None:
    # In one piece; it took a minute once, for copying what was left over at every member.
    packed = gzip.compress(b"[]", mtime=0) * 50_000
    assert unpacked(packed, len(packed)) == b"[]" * 50_000


def test_a_small_bundle_may_pack_as_well_as_it_can() -> None:
    assert len(unpacked(bomb(64), max_ratio=10)) == 64 * MIB
    with pytest.raises(BundleTooLargeError):
        unpacked(bomb(65), max_ratio=10)


def test_what_was_never_packed_has_no_ratio() -> None:
    assert len(unpacked(b" " * 70 * MIB, MIB, max_ratio=0)) == 70 * MIB


_MEASURED = """
import sys
from benchmarks.process import peak_mb
from fullstory_dagster.compression import gunzip
from fullstory_dagster.errors import BundleTooLargeError

packed = open(sys.argv[1], "rb")
before = peak_mb()
try:
    for _ in gunzip(iter(lambda: packed.read(1 << 20), b""), max_bytes=int(sys.argv[2])):
        pass
except BundleTooLargeError:
    print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is kilobytes on Linux alone")
def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gz"
    file.write_bytes(bomb(4096, 2))
    command = [sys.executable, "-c", _MEASURED, str(file), str(2 << 30)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert float(said) < 64
