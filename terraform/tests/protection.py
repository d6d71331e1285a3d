"""What Terraform may change in place, and what it refuses to do to a cache that is full of posts.

The real provider decides what forces a replacement, and mocks do not know it. So these are plans of
the real provider over a state written here, that of a module that was applied; nothing is asked of
AWS.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from commands import Failure, attempt

ACCOUNT = "123456789012"
REGION = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
PROVIDER = """\
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}
"""
GIVEN = {
    "vpc_id": "vpc-1",
    "subnet_ids": ["subnet-1", "subnet-2"],
    "check_subnets": False,
    "spider_security_group_ids": {"spiders": "sg-spiders"},
}
CACHE = "aws_elasticache_serverless_cache.this"
KMS_KEY = "aws_kms_key.cache"

IN_PLACE: dict[str, Any] = {
    "storage_maximum_gb": 20,
    "ecpu_maximum_per_second": 9000,
    "snapshot_time": "10:00",
    "snapshot_retention_days": 7,
    "description": "posts",
    "tags": {"team": "spiders"},
    "restore_from_snapshot_arns": [
        f"arn:aws:elasticache:{REGION}:{ACCOUNT}:serverlesscachesnapshot:before"
    ],
}
REFUSED: list[dict[str, Any]] = [
    {"name": "news"},
    {"major_engine_version": "9"},
    {"subnet_ids": ["subnet-1", "subnet-3"]},
]


def check(module: Path) -> None:
    """Fails unless the plans say what README.md says. The folder must be initialised."""
    for part in (
        changes_in_place,
        replacement_is_refused,
        destruction_is_refused,
        the_rest_can_be_destroyed,
    ):
        part(module)


def changes_in_place(module: Path) -> None:
    """Limits, snapshots and the like never replace the cache."""
    plan = _plan(module, IN_PLACE)
    if f"{CACHE} will be updated in-place" not in plan or re.search(
        "must be replaced|Error:", plan
    ):
        raise Failure(f"{IN_PLACE} should change the cache in place:\n{plan}")


def replacement_is_refused(module: Path) -> None:
    """What only a new cache can have is refused."""
    for change in REFUSED:
        _must_be_refused(_plan(module, change), [CACHE], str(change))


def destruction_is_refused(module: Path) -> None:
    """``terraform destroy`` touches neither cache nor key."""
    plan = _plan(module, {}, "-destroy")
    _must_be_refused(plan, [CACHE, KMS_KEY], "terraform destroy")


def the_rest_can_be_destroyed(module: Path) -> None:
    """Once cache and key were taken out of the state, as README.md tells, nothing is in the way."""
    plan = _plan(module, {}, "-destroy", without=(CACHE, KMS_KEY))
    if "Plan: 0 to add, 0 to change, 2 to destroy." not in plan or "Error:" in plan:
        raise Failure(f"terraform destroy should remove what is left:\n{plan}")


def _plan(
    module: Path, change: dict[str, Any], *options: str, without: tuple[str, ...] = ()
) -> str:
    variables = [
        f"-var={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in (GIVEN | change).items()
    ]
    state = applied()
    state["resources"] = [
        one for one in state["resources"] if f"{one['type']}.{one['name']}" not in without
    ]
    files = {module / "offline.tf": PROVIDER, module / "terraform.tfstate": json.dumps(state)}
    for path, content in files.items():
        path.write_text(content)
    try:
        return attempt(
            "terraform", "plan", "-no-color", "-input=false", "-lock=false", "-refresh=false",
            *options, *variables, place=module,
        ).stdout  # fmt: skip
    finally:
        for path in files:
            path.unlink()


def _must_be_refused(plan: str, resources: list[str], what: str) -> None:
    for resource in resources:
        if f"Resource {resource} has lifecycle.prevent_destroy" not in " ".join(plan.split()):
            raise Failure(f"{what} should be refused, as it destroys {resource}:\n{plan}")


def applied() -> dict[str, Any]:
    """The state of a module applied with the defaults, as far as the cache depends on it."""
    tags = {"Name": "post-dedup"}
    return {
        "version": 4,
        "terraform_version": "1.11.0",
        "serial": 1,
        "lineage": "written-by-a-test",
        "outputs": {},
        "resources": [
            _resource("aws_kms_key", "cache", {
                "id": "1234abcd", "key_id": "1234abcd", "arn": KEY, "policy": "{}",
                "is_enabled": True, "enable_key_rotation": True, "deletion_window_in_days": 30,
                "key_usage": "ENCRYPT_DECRYPT", "customer_master_key_spec": "SYMMETRIC_DEFAULT",
                "tags": tags, "tags_all": tags,
            }),
            _resource("aws_security_group", "cache", {
                "id": "sg-cache", "owner_id": ACCOUNT, "vpc_id": "vpc-1",
                "name": "post-dedup-cache",
                "description": "post-dedup: lets in the spiders, and nobody else",
                "ingress": [], "egress": [], "tags": tags, "tags_all": tags,
            }, version=1),
            _resource("aws_elasticache_user_group", "spiders", {
                "id": "post-dedup", "user_group_id": "post-dedup", "engine": "valkey",
                "user_ids": ["post-dedup-spider"], "tags": tags, "tags_all": tags,
            }),
            _resource("aws_elasticache_serverless_cache", "this", {
                "id": "post-dedup", "name": "post-dedup", "description": "post dedup pipeline",
                "arn": f"arn:aws:elasticache:{REGION}:{ACCOUNT}:serverlesscache:post-dedup",
                "engine": "valkey", "major_engine_version": "8", "full_engine_version": "8.1",
                "cache_usage_limits": [{
                    "data_storage": [{"minimum": None, "maximum": 10, "unit": "GB"}],
                    "ecpu_per_second": [{"minimum": None, "maximum": 5000}],
                }],
                "daily_snapshot_time": "09:00", "snapshot_retention_limit": 3, "kms_key_id": KEY,
                "subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-cache"],
                "user_group_id": "post-dedup", "status": "available",
                "create_time": "2026-11-22T00:00:00Z",
                "endpoint": [{"address": "post-dedup.example", "port": 6379}],
                "reader_endpoint": [{"address": "post-dedup.example", "port": 6380}],
                "tags": tags, "tags_all": tags,
            }),
        ],
    }  # fmt: skip


def _resource(kind: str, name: str, attributes: dict[str, Any], version: int = 0) -> dict[str, Any]:
    return {
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider": 'provider["registry.terraform.io/hashicorp/aws"]',
        "instances": [{"schema_version": version, "attributes": attributes}],
    }
