"""Decides what is a URL that fsspec reads, and what it is called: without its credentials.

A URL is named by what is no secret in it. Passwords, tokens and signatures are kept apart, in the memory of this
process, and put back where the URL is opened: so no message, table or setting can hold them.
"""

import re
from pathlib import Path

_LINK = re.compile(r"(?P<kind>[A-Za-z][\w+.-]+):/+(?P<rest>.*)", re.DOTALL)
_PLACE = re.compile(r"(?P<login>[^/?#]*@)?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.DOTALL)
_SECRET = re.compile(r"token|secret|passw|pwd|auth|cred|key|hmac|policy|jwt|session|accessid", re.I)
"""In the name of a parameter whose value is a secret."""
_SIGNATURE = re.compile(r"(x-\w+-)?(sig|signature)", re.I)
"""The name of a parameter that signs a URL: all others but the version of the file are about the signature."""
_WEB = {"http", "https", "webdav", "ftp"}
"""Protocols before whose host a name alone is a secret as well: others have the name of an account or a container."""
_BEHIND = re.compile(r"([A-Za-z][\w-]*(?:@[^:]*)?:)(\w.*)", re.DOTALL)
"""A URL behind the name of a format."""
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]+://[^\s'\"<>]+")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""What fsspec reads a protocol by, where it takes another package."""
TABLES = ("parquet", "arrow")
"""Tables whose cells hold files, which are named as files in archives are: ``parquet://COLUMN/ROW/NAME::table.parquet``."""

_exact: dict[str, str] = {}
"""URLs with their credentials, by their names."""
_logins: dict[str, str] = {}
"""``user:password@`` by protocol and host."""


def split_url(text: str) -> tuple[str, str] | None:
    """Returns protocol and rest of what is written like a URL, also where `Path` has made one slash of two."""
    found = re.fullmatch(r"([A-Za-z][\w+.-]+(?:::[A-Za-z][\w+.-]+)*):/+(.*)", text, re.DOTALL)
    return None if found is None else (found[1], found[2])


def url_of(data: str | Path) -> str | None:
    """Returns ``data`` as a URL that fsspec reads, if it is one: also one that went through `Path`.

    Files in archives and tables are URLs with ``::`` between the file and the archive, which may be local.
    """
    first, *others = str(data).split("::")
    if split_url(first) is None and not others:
        return None
    import fsspec  # here, because most files are local

    known = {*fsspec.available_protocols(), *PACKAGES}
    kinds = {*known, *TABLES} if others else known
    links = [_link(first, kinds - {"file", "local"}), *(_link(other, known) or other for other in others)]
    return None if links[0] is None else "::".join(map(str, links))


def _link(text: str, known: set[str]) -> str | None:
    """Returns one part of a URL with two slashes, a protocol alone as it is; None for anything else."""
    if text in known:
        return text
    found = _LINK.fullmatch(text)
    if found is None or found["kind"] not in known:
        return None
    slashes = ":///" if found["kind"] in ("file", "local") else "://"
    return f"{found['kind']}{slashes}{found['rest']}"


def public_url(url: str) -> str:
    """Returns a URL without passwords, tokens, signatures and keys: its name, by which it may be found again."""
    return "::".join(map(_public_link, url.split("::")))


def remember_url(url: str) -> str:
    """Returns `public_url`, and keeps what that leaves out for :func:`exact_url`."""
    name = public_url(url)
    for link in url.split("::"):
        found = _LINK.fullmatch(link)
        if found and (login := _login(found)):
            _logins[_origin(found, login)] = login
    if name != url:
        _exact[name] = url
    return name


def without_credentials(data: str | Path) -> str | Path:
    """Returns the name of a URL, with `remember_url`, also behind ``shards:`` and its like; other data as they are."""
    prefix, url = "", url_of(data)
    if url is None and (found := _BEHIND.fullmatch(str(data))):
        prefix, url = found[1], url_of(found[2])
    return data if url is None else f"{prefix}{remember_url(url)}"


def remember_as(name: str, url: str) -> None:
    """Keeps the URL that is to be opened for a ``name``."""
    if name != url:
        _exact[name] = url


def exact_url(name: str) -> str:
    """Returns a URL with the credentials that came with it, or with another one of the same host."""
    if name in _exact:
        return _exact[name]
    return "::".join(_with_login(link) for link in name.split("::")) if _logins else name


def hide_in(text: str) -> str:
    """Returns a text, such as the message of a server's error, with the names of the URLs that are in it."""
    return _IN_TEXT.sub(lambda found: public_url(found[0]), text)


def _public_link(link: str) -> str:
    found = _LINK.fullmatch(link)
    if found is None:
        return link
    place = _PLACE.fullmatch(found["rest"])
    assert place is not None  # it fits any text
    login = "" if _login(found) else place["login"] or ""
    said = {one: one.partition("=")[0] for one in (place["query"] or "?")[1:].split("&")}
    if any(_SIGNATURE.fullmatch(name) for name in said.values()):
        said = {one: name for one, name in said.items() if name.lower() in ("versionid", "generation")}
    said = [one for one, name in said.items() if not _SECRET.search(name)]
    query = f"?{'&'.join(said)}" if any(said) else ""
    return f"{found['kind']}://{login}{place['path']}{query}{place['fragment'] or ''}"


def _login(link: re.Match[str]) -> str:
    """Returns the ``user:password@`` of a URL, "" where there is none that is a secret."""
    place = _PLACE.fullmatch(link["rest"])
    login = place["login"] or "" if place else ""
    return login if ":" in login or link["kind"] in _WEB else ""


def _origin(link: re.Match[str], login: str) -> str:
    host = re.split(r"[/?#]", link["rest"].removeprefix(login), maxsplit=1)[0]
    return f"{link['kind']}://{host}"


def _with_login(link: str) -> str:
    found = _LINK.fullmatch(link)
    login = _logins.get(_origin(found, "")) if found else None
    return f"{found['kind']}://{login}{found['rest']}" if found and login else link
