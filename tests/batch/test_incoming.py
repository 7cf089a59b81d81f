"""What is sent as a job: names, amounts and archives, good ones and those meant to do harm."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from emotion2vec_ui.batch.incoming import RATIO_FROM_BYTES, Bounds, Incoming
from emotion2vec_ui.errors import InputError, JobTooLarge, NoFiles, UploadTooLarge, UploadUnusable

BOUNDS = Bounds(files=20, bytes=100_000_000, file_bytes=50_000_000)


def send(folder: Path, *files: tuple[str, bytes], bounds: Bounds = BOUNDS) -> Incoming:
    incoming = Incoming(folder / "files", bounds)
    try:
        for name, content in files:
            incoming.begin(name)
            incoming.write(content)
            incoming.end()
        incoming.finish()
    finally:
        incoming.end()
    return incoming


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inside in members:
            archive.writestr(name, inside)
    return content.getvalue()


def there(folder: Path) -> dict[str, bytes]:
    root = folder / "files"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def problem(folder: Path, *files: tuple[str, bytes], bounds: Bounds = BOUNDS) -> str:
    """What is said of files that cannot be taken; nothing may lie outside the job's folder."""
    inside = folder / "job"
    inside.mkdir()
    with pytest.raises(InputError) as caught:
        send(inside, *files, bounds=bounds)
    outside = [path for path in folder.rglob("*") if path != inside and inside not in path.parents]
    assert outside == [] and str(folder) not in str(caught.value)
    return str(caught.value)


def test_files_lie_under_their_names(tmp_path):
    files = {"a.wav": b"a", "day 1/客户.wav": b"bb", "b": b""}
    incoming = send(tmp_path, *files.items())
    assert there(tmp_path) == files
    assert (incoming.name, incoming.files, incoming.bytes) == ("a.wav", 3, 3)


def test_one_zip_is_unpacked_and_does_not_stay(tmp_path):
    archive = zipped(("calls/a.wav", b"a" * 1000), ("calls/deep/b.mp3", b"b"), ("empty/", b""))
    incoming = send(tmp_path, ("May.ZIP", archive))
    assert there(tmp_path) == {"calls/a.wav": b"a" * 1000, "calls/deep/b.mp3": b"b"}
    assert (incoming.name, incoming.files, incoming.bytes) == ("May.ZIP", 2, 1001)
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_what_macos_packs_along_is_left_out(tmp_path):
    archive = zipped(
        ("calls/a.wav", b"a"), ("__MACOSX/calls/._a.wav", b"x"), ("calls/.DS_Store", b"x")
    )
    assert send(tmp_path, ("calls.zip", archive)).files == 1
    assert list(there(tmp_path)) == ["calls/a.wav"]


def test_names_of_a_chinese_windows_are_read(tmp_path):
    content = bytearray(zipped(("AAAA.wav", b"x"), ("u/\u00fc.wav", b"y")))
    raw = "客户".encode("gb2312")
    content = content.replace(b"AAAA", raw)
    send(tmp_path, ("calls.zip", bytes(content)))
    assert sorted(there(tmp_path)) == ["u/ü.wav", "客户.wav"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../a.wav", "out of the job's folder"),
        ("a/../../b.wav", "out of the job's folder"),
        ("/etc/passwd", "out of the job's folder"),
        ("C:\\Users\\a.wav", "out of the job's folder"),
        ("..\\a.wav", "out of the job's folder"),
        ("a\x01.wav", "no file can have this name"),
        ("calls/..", "out of the job's folder"),
        ("calls/", "no file can have this name"),
        ("x" * 300 + ".wav", "too long"),
        ("y/" * 600 + "a.wav", "too long"),
    ],
)
def test_a_name_that_leads_elsewhere_or_nowhere_is_refused(tmp_path, name, says):
    (tmp_path / "alone").mkdir()
    assert says in problem(tmp_path / "alone", (name, b"x"))
    if name.endswith("/"):
        return  # in an archive, a folder
    (tmp_path / "zip").mkdir()
    assert says in problem(tmp_path / "zip", ("a.zip", zipped((name, b"x"))))


def test_the_same_name_twice_is_told(tmp_path):
    assert "a.wav" in problem(tmp_path, ("a.wav", b"1"), ("a.wav", b"2"))


def test_a_file_and_a_folder_of_one_name_are_told(tmp_path):
    assert "twice" in problem(tmp_path, ("a", b"1"), ("a/b.wav", b"2"))


def test_duplicate_names_in_a_zip_are_told(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(("a.wav", b"1"), ("a.wav", b"2"))
    assert "twice" in problem(tmp_path, ("a.zip", archive))


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("a.wav")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "link" in problem(tmp_path, ("a.zip", zipped((link, b"/etc/passwd"))))


def test_an_archive_in_the_archive_is_named(tmp_path):
    inner = zipped(("a.wav", b"x"))
    told = problem(tmp_path, ("outer.zip", zipped(("b.wav", b"x"), ("in/inner.ZIP", inner))))
    assert "inner.ZIP" in told and "unpack it first" in told


def test_a_zip_beside_other_files_is_refused(tmp_path):
    for number, files in enumerate(
        [(("a.zip", b""), ("b.wav", b"")), (("b.wav", b""), ("a.zip", b""))]
    ):
        (tmp_path / str(number)).mkdir()
        assert "alone" in problem(tmp_path / str(number), *files)


def test_an_encrypted_zip_is_told(tmp_path):
    content = bytearray(zipped(("a.wav", b"x" * 100)))
    # The bit of encryption, in the member's own header and in the list.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert "password" in problem(tmp_path, ("a.zip", bytes(content)))


@pytest.mark.parametrize("cut", ["no zip at all", "half", "content"])
def test_a_damaged_zip_is_told(tmp_path, cut):
    whole = bytearray(zipped(("a.wav", os.urandom(5000))))
    if cut == "content":
        whole[2000] ^= 0xFF
    content = {"no zip at all": b"RIFF....WAVE", "half": bytes(whole[: len(whole) // 2])}
    told = problem(tmp_path, ("a.zip", content.get(cut, bytes(whole))))
    assert "damaged or no zip" in told


def test_a_bomb_is_told_before_it_is_unpacked(tmp_path):
    bomb = zipped(("a.wav", bytes(2 * RATIO_FROM_BYTES)))
    assert len(bomb) < 100_000
    assert "times its size" in problem(tmp_path, ("bomb.zip", bomb))
    assert there(tmp_path / "job") == {}


def test_a_bomb_of_many_members_is_bounded_by_the_total(tmp_path):
    bounds = Bounds(files=20, bytes=1_000_000, file_bytes=1_000_000)
    bomb = zipped(*((f"{n}.wav", bytes(300_000)) for n in range(5)))
    assert "1 MB" in problem(tmp_path, ("bomb.zip", bomb), bounds=bounds)


def test_a_list_of_contents_without_end_is_not_read(tmp_path):
    """zipfile reads the whole list at once, whatever the number of members is said to be."""
    entries = 60_000
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 1, 0, 0) + bytes(12) + b"a"
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, entries * len(entry), 0, 0)
    assert "20 files" in problem(tmp_path, ("a.zip", entry * entries + end))


def test_no_file_too_many_and_too_large_are_three_errors(tmp_path):
    bounds = Bounds(files=2, bytes=1000, file_bytes=600)
    for number, (error, files) in enumerate(
        [
            (NoFiles, []),
            (NoFiles, [("a.zip", zipped(("folder/", b"")))]),
            (JobTooLarge, [(f"{n}.wav", b"") for n in range(3)]),
            (JobTooLarge, [("a.wav", bytes(600)), ("b.wav", bytes(401))]),
            (UploadTooLarge, [("a.wav", bytes(601))]),
            (JobTooLarge, [("a.zip", zipped(*((f"{n}.wav", b"") for n in range(3))))]),
            (UploadTooLarge, [("a.zip", zipped(("a.wav", bytes(601))))]),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(error):
            send(folder, *files, bounds=bounds)


def test_a_full_disk_is_a_full_disk():
    """/dev/full stands for it: a link to it where the archive would lie."""
    from emotion2vec_ui.batch.incoming import writing
    from emotion2vec_ui.errors import DiskFull

    with pytest.raises(DiskFull), writing(Path("x")), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")


def test_a_wrong_use_leaves_the_error_of_the_name(tmp_path):
    with pytest.raises(UploadUnusable) as caught:
        send(tmp_path, ("../secret/a.wav", b""))
    assert caught.value.to_dict("zh")["message"].startswith("无法接收 a.wav")
