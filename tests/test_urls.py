"""What is a URL, what it is called without its credentials, and that it opens with them in every process."""

import pickle
from pathlib import Path

import pytest

from dualformer.remote_paths import RemotePath, as_path, path_in
from dualformer.urls import exact_url, hide_in, public_url, url_of, without_credentials

SIGNED = "X-Amz-Credential=AKIA%2F1&X-Amz-Date=2&X-Amz-Expires=3&X-Amz-Signature=abc"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a.mp4", "https://host/a.mp4"),
        ("https://user:word@host:80/a.mp4", "https://host:80/a.mp4"),
        ("https://ghp_word@host/a.mp4", "https://host/a.mp4"),
        (f"https://host/a.mp4?{SIGNED}", "https://host/a.mp4"),
        (f"https://host/a.mp4?versionId=7&{SIGNED}", "https://host/a.mp4?versionId=7"),
        ("https://host/a.mp4?sv=2024&se=2026&sp=r&sig=abc%3D", "https://host/a.mp4"),
        ("https://host/get?id=5&access_token=abc&size=2#t=1,2", "https://host/get?id=5&size=2#t=1,2"),
        ("https://host/get?api_key=abc", "https://host/get"),
        ("abfs://container@account.dfs.core.windows.net/a.mp4", "abfs://container@account.dfs.core.windows.net/a.mp4"),
        ("sftp://me:word@host/a.mp4", "sftp://host/a.mp4"),
        ("hf://datasets/me/films@main/a.mp4", "hf://datasets/me/films@main/a.mp4"),
        ("zip://a.mp4::https://user:word@host/f.zip?token=abc", "zip://a.mp4::https://host/f.zip"),
        ("rtsp://me:word@[::1]:554/live", "rtsp://[::1]:554/live"),
    ],
)
def test_a_url_is_named_by_what_is_no_secret(url: str, name: str) -> None:
    assert public_url(url) == name == public_url(name)
    assert hide_in(f"403, url='{url}' is forbidden") == f"403, url='{name}' is forbidden"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("zip://a.mp4::films.zip", "zip://a.mp4::films.zip"),
        ("zip:/in/a.mp4::s3:/bucket/films.zip", "zip://in/a.mp4::s3://bucket/films.zip"),
        ("tar://a.mp4::file:/data/films.tar", "tar://a.mp4::file:///data/films.tar"),
        ("simplecache::https:/host/a", "simplecache::https://host/a"),
        ("a::b.mp4", None),
        ("/data/a::b.mp4", None),
        ("s3", None),
        ("file:///data/a.mp4", None),
        ("rtsp://camera/live", None),
    ],
)
def test_files_in_archives_are_urls(text: str, url: str | None) -> None:
    assert url_of(text) == url_of(Path(text)) == url


def test_a_path_of_a_url_is_its_name_and_opens_as_it_was_given() -> None:
    url = f"https://user:word@host:81/films//a%20b.mp4?{SIGNED}"
    path = as_path(url)
    assert isinstance(path, RemotePath)
    assert str(path) == f"{path}" == path.as_posix() == "https://host:81/films/a%20b.mp4"
    assert "word" not in repr(path) and "abc" not in repr(path)
    assert exact_url(str(path)) == exact_url(str(as_path(Path(str(path))))) == url
    assert (path.name, path.stem, path.suffix) == ("a%20b.mp4", "a%20b", ".mp4")
    assert path.resolve() == path.absolute() == path == as_path(path) == pickle.loads(pickle.dumps(path))
    assert b"word" in pickle.dumps(path)  # or no process that is started could open it


def test_what_lies_beside_a_url_has_its_login() -> None:
    beside = as_path("https://user:word@host:82/sets/list.csv?token=abc").parent / "../films/a.mp4"
    assert str(beside) == "https://host:82/films/a.mp4"
    assert exact_url(str(beside)) == "https://user:word@host:82/films/a.mp4"
    assert str(as_path("s3://bucket/list.csv").parent / "../../a.mp4") == "s3://bucket/a.mp4"
    assert str(as_path("zip://in/list.csv::s3://b/f.zip").parent / "a.mp4") == "zip://in/a.mp4::s3://b/f.zip"
    assert path_in(as_path("s3://bucket/sets"), "gs://other/a.mp4") == as_path("gs://other/a.mp4")
    assert path_in(as_path("s3://bucket/sets"), "/data/a.mp4") == Path("/data/a.mp4")
    assert path_in(Path("/data"), "a.mp4") == Path("/data/a.mp4")
    assert str(path_in(Path("/data"), "s3://bucket/a.mp4")) == "s3://bucket/a.mp4"


def test_what_is_behind_the_name_of_a_format_has_a_name_without_secrets() -> None:
    for prefix in ("shards:", "columns@label=verb,video=left:"):
        assert without_credentials(f"{prefix}https://me:word@host/x.parquet") == f"{prefix}https://host/x.parquet"
    assert exact_url("https://host/x.parquet") == "https://me:word@host/x.parquet"
    for other in ("ucf101:/data", "list@root=x:lists", "segments:folder"):
        assert without_credentials(other) is other
