"""Buckets, and how what is put into them is encrypted."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.encryption import of_bucket, shown_rule
from server.objects.local.records import Bucket, moment
from server.objects.local.registry import Result, operation
from server.objects.naming import check_bucket
from server.objects.operations import not_built
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

MAX_BUCKETS = 10_000
DEFAULT_REGION = "us-east-1"
"""Of a bucket that is made without a LocationConstraint; such a bucket has none."""


@operation("Prefix BucketRegion MaxBuckets ContinuationToken")
def list_buckets(store: LocalStore, params: Params, _body: Body | None) -> Result:
    prefix, region = params.get("Prefix", ""), params.get("BucketRegion")
    limit, after = params.get("MaxBuckets", MAX_BUCKETS), params.get("ContinuationToken", "")
    if not 1 <= limit <= MAX_BUCKETS:
        raise ObjectError("InvalidArgument", f"max-buckets must be from 1 to {MAX_BUCKETS}", ArgumentName="max-buckets")
    found = [
        bucket
        for bucket in store.index.buckets()
        if bucket.name.startswith(prefix) and bucket.name > after and region in (None, bucket.region)
    ]
    result: dict[str, Any] = {"Owner": store.owner, "Buckets": [_listed(bucket) for bucket in found[:limit]]}
    if prefix:
        result["Prefix"] = prefix
    if len(found) > limit:
        result["ContinuationToken"] = found[limit - 1].name
    return result


def _listed(bucket: Bucket) -> Result:
    return {"Name": bucket.name, "CreationDate": moment(bucket.created), "BucketRegion": bucket.region}


@operation("Bucket CreateBucketConfiguration")
def create_bucket(store: LocalStore, params: Params, _body: Body | None) -> Result:
    name = params["Bucket"]
    check_bucket(name)
    configuration = params.get("CreateBucketConfiguration", {})
    if other := [member for member in configuration if member != "LocationConstraint"]:
        raise not_built(f"CreateBucketConfiguration.{other[0]}")
    bucket = Bucket(name, configuration.get("LocationConstraint") or DEFAULT_REGION, int(time.time()))
    with store.index.change():
        present = store.index.buckets()
        if any(bucket.name == name for bucket in present):
            raise ObjectError("BucketAlreadyOwnedByYou", BucketName=name)
        if len(present) >= MAX_BUCKETS:
            raise ObjectError("TooManyBuckets", f"You have attempted to create more than {MAX_BUCKETS} buckets")
        store.index.put_bucket(bucket)
    return {"Location": f"/{name}"}


@operation("Bucket")
def head_bucket(store: LocalStore, params: Params, _body: Body | None) -> Result:
    return {"BucketRegion": store.index.bucket(params["Bucket"]).region, "AccessPointAlias": False}


@operation("Bucket")
def get_bucket_location(store: LocalStore, params: Params, _body: Body | None) -> Result:
    region = store.index.bucket(params["Bucket"]).region
    return {} if region == DEFAULT_REGION else {"LocationConstraint": region}


@operation("Bucket")
def delete_bucket(store: LocalStore, params: Params, _body: Body | None) -> Result:
    with store.index.change():
        store.index.bucket(params["Bucket"])
        blobs = store.index.drop_bucket(params["Bucket"])
    store.blobs.discard(blobs)
    return {}


@operation("Bucket ServerSideEncryptionConfiguration")
def put_bucket_encryption(store: LocalStore, params: Params, _body: Body | None) -> Result:
    rule = of_bucket(params.get("ServerSideEncryptionConfiguration", {}))
    with store.index.change():
        store.index.put_bucket(replace(store.index.bucket(params["Bucket"]), encryption=asdict(rule)))
    return {}


@operation("Bucket")
def get_bucket_encryption(store: LocalStore, params: Params, _body: Body | None) -> Result:
    rule = store.keeper.bucket_rule(store.index.bucket(params["Bucket"]))
    if rule is None:
        raise ObjectError("ServerSideEncryptionConfigurationNotFoundError", BucketName=params["Bucket"])
    return {"ServerSideEncryptionConfiguration": shown_rule(rule)}


@operation("Bucket")
def delete_bucket_encryption(store: LocalStore, params: Params, _body: Body | None) -> Result:
    with store.index.change():
        store.index.put_bucket(replace(store.index.bucket(params["Bucket"]), encryption={}))
    return {}
