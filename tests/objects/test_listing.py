"""Listings against the plainest listing there is."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.objects.local.pages import after, page
from server.objects.local.records import Details, Listed, Piece, Stored
from tests.objects.serving import Served, client
from tests.objects.test_objects import code

LETTERS = st.text(st.sampled_from("ab/é\U0001f600\x7f"), max_size=6)
KEYS = st.sets(LETTERS.filter(bool), max_size=25)
FREE_KEYS = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=12)


def plain(keys: set[str], prefix: str, delimiter: str, start: str) -> list[str]:
    """Every entry after `start`, keys and common prefixes in one order."""
    entries: dict[str, None] = {}
    for key in sorted(keys, key=str.encode):
        if key.startswith(prefix) and key.encode() > start.encode():
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if at < 0 else key[: at + len(delimiter)]
            if at < 0 or entry != start:
                entries[entry] = None
    return list(entries)


def row(key: str) -> Listed:
    return Listed(key, 0, "", 0, None, "FULL_OBJECT")


@given(KEYS, LETTERS.map(lambda text: text[:2]), st.sampled_from(["", "/", "a", "b/", "é"]), LETTERS,
       st.integers(1, 7), st.data())  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_pages_hold_what_the_plain_listing_has(
    keys: set[str], prefix: str, delimiter: str, start: str, limit: int, data: st.DataObject
) -> None:
    ordered = sorted(keys, key=str.encode)

    def fetch(low: bytes, high: bytes | None, most: int) -> list[Listed]:
        return [row(key) for key in ordered if low <= key.encode() and (high is None or key.encode() < high)][:most]

    seen: list[str] = []
    marker = start
    for _ in range(40):
        found = page(fetch, prefix, delimiter, after(marker, prefix, delimiter) if marker else b"", limit)
        seen += sorted([*(item.key for item in found.rows), *found.prefixes], key=str.encode)
        if not found.truncated:
            break
        marker = found.last
    assert seen == plain(keys, prefix, delimiter, start)


@pytest.fixture(scope="module")
def s3(local: Served) -> Any:
    return client(local.url)


BUCKETS = count(1)


@given(FREE_KEYS, st.sampled_from(["", "/"]), st.integers(1, 5))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_clients_page_through_any_keys(s3: Any, local: Served, keys: set[str], delimiter: str, size: int) -> None:
    bucket = f"any-keys-{next(BUCKETS)}"
    s3.create_bucket(Bucket=bucket)
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    asked = {"Bucket": bucket, "Delimiter": delimiter, "PaginationConfig": {"PageSize": size}}
    for operation in ("list_objects_v2", "list_objects"):
        found: list[str] = []
        for each in s3.get_paginator(operation).paginate(**asked):
            entries = [item["Key"] for item in each.get("Contents", [])]
            entries += [item["Prefix"] for item in each.get("CommonPrefixes", [])]
            assert len(entries) <= size
            assert each.get("KeyCount", len(entries)) == len(entries)
            found += entries
        assert sorted(found, key=str.encode) == plain(keys, "", delimiter, "")


def test_parameters_of_a_listing(s3: Any) -> None:
    bucket = "listing-parameters"
    s3.create_bucket(Bucket=bucket)
    for key in ("a", "b/1", "b/2", "c d"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"12")
    first = s3.list_objects_v2(Bucket=bucket, MaxKeys=2, FetchOwner=True, StartAfter="Z")
    assert [(item["Key"], item["Size"], item["Owner"]["ID"]) for item in first["Contents"]] == [
        ("a", 2, "123456789012"), ("b/1", 2, "123456789012")]  # fmt: skip
    assert (first["IsTruncated"], first["KeyCount"], first["MaxKeys"], first["StartAfter"]) == (True, 2, 2, "Z")
    token = first["NextContinuationToken"]
    second = s3.list_objects_v2(Bucket=bucket, ContinuationToken=token)
    assert ([item["Key"] for item in second["Contents"]], second["IsTruncated"]) == (["b/2", "c d"], False)
    assert "Owner" not in second["Contents"][0]
    encoded = s3.list_objects_v2(Bucket=bucket, Prefix="c", EncodingType="url")
    assert (encoded["Contents"][0]["Key"], encoded["EncodingType"]) == ("c%20d", "url")
    old = s3.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=2)
    assert (old["NextMarker"], old["Contents"][0]["Owner"]["ID"]) == ("b/", "123456789012")
    assert [item["Key"] for item in s3.list_objects(Bucket=bucket, Marker="b/", Delimiter="/")["Contents"]] == ["c d"]
    none = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"]) == (0, False)
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"] == 1000
    assert code(lambda: s3.list_objects_v2(Bucket=bucket, MaxKeys=-1)) == ("InvalidArgument", 400)
    assert code(lambda: s3.list_objects_v2(Bucket=bucket, ContinuationToken="%%")) == ("InvalidArgument", 400)


def test_a_hundred_thousand_keys(s3: Any, local: Served) -> None:
    bucket = "many"
    s3.create_bucket(Bucket=bucket)
    index = local.app.storage.index  # type: ignore[attr-defined]
    keys = {f"{number % 500:03}/{number:06}" for number in range(100_000)}
    with index.change():
        index.put(Stored(bucket, "", 1, "0" * 32, 0, Details(), (Piece("none/1", 1),)))
        index._database.executemany(
            "INSERT INTO objects SELECT bucket, ?, size, etag, modified, algorithm, checksum_type, details, pieces, "
            "inline FROM objects WHERE bucket = ? AND key = X''", [(key.encode(), bucket) for key in sorted(keys)],
        )  # fmt: skip
        index.drop(bucket, "")
    rolled = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    deep = s3.list_objects_v2(Bucket=bucket, StartAfter="250/", MaxKeys=1000)
    assert [item["Prefix"] for item in rolled["CommonPrefixes"]] == [f"{number:03}/" for number in range(500)]
    assert [item["Key"] for item in deep["Contents"]] == sorted(key for key in keys if key > "250/")[:1000]
