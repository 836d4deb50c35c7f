"""What a versioned bucket keeps of objects that were deleted or replaced."""

from typing import Any

from botocore.exceptions import ClientError

from repl_pipelines.errors import ErasureRefused
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors

_REFUSALS = ("AccessDenied", "AllAccessDisabled", "InvalidRequest", "MethodNotAllowed")
_WITHOUT = ("NotImplemented", "501")  # a store that keeps none


def forget_versions(store: Store, prefix: str) -> int:
    """Delete all versions below `prefix` but the newest of objects that are there; how many.

    Raises ErasureRefused where the store will not: for want of a right, or as they are locked.
    """
    deleted = 0
    with store_errors(f"Deleting old versions below {prefix}"):
        try:
            # Versions first: without its marker the one before would be there again.
            for version in sorted(_kept(store, prefix), key=lambda one: one["marker"]):
                store.client().delete_object(
                    Bucket=store.bucket, Key=version["Key"], VersionId=version["VersionId"]
                )
                deleted += 1
        except ClientError as error:
            if error.response["Error"]["Code"] not in _REFUSALS:
                raise
            raise ErasureRefused(
                f"The bucket {store.bucket!r} keeps old versions of its objects, and refused to"
                f" delete those below {prefix} ({error.response['Error']['Code']}).",
                "Grant s3:ListBucketVersions and s3:DeleteObjectVersion, or wait for the end of an"
                " object lock; then erase again.",
            ) from error
    return deleted


def _kept(store: Store, prefix: str) -> list[dict[str, Any]]:
    pages = store.client().get_paginator("list_object_versions")
    found: list[dict[str, Any]] = []
    try:
        for page in pages.paginate(Bucket=store.bucket, Prefix=prefix):
            old = (one for one in page.get("Versions", ()) if not one["IsLatest"])
            found += [{**one, "marker": False} for one in old]
            found += [{**one, "marker": True} for one in page.get("DeleteMarkers", ())]
    except ClientError as error:
        if error.response["Error"]["Code"] not in _WITHOUT:
            raise
    return found
