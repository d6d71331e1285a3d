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

from commands import CommandFailure, Failure, attempt, run

ACCOUNT = "123456789012"
REGION = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
AWS = "registry.terraform.io/hashicorp/aws"
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
CACHE = "aws_elasticache_serverless_cache.this[0]"
KMS_KEY = "aws_kms_key.cache[0]"

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
# What a plan with IN_PLACE makes of the cache.
CHANGED: dict[str, Any] = {
    "cache_usage_limits": [
        {
            "data_storage": [{"minimum": None, "maximum": 20, "unit": "GB"}],
            "ecpu_per_second": [{"minimum": None, "maximum": 9000}],
        }
    ],
    "daily_snapshot_time": "10:00",
    "snapshot_retention_limit": 7,
    "description": "posts",
    "tags": {"Name": "post-dedup", "team": "spiders"},
    # Somebody took the cache out of its user group, and put another security group on it.
    "user_group_id": "post-dedup",
    "security_group_ids": ["sg-cache"],
}
ANOTHER_KEY = {"create_key": False, "kms_key_arn": KEY.replace("1234abcd", "another")}
# What is planned, what was taken out of the state before, and what is refused for that.
REFUSED: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"name": "news"}, (), CACHE),
    ({"subnet_ids": ["subnet-1", "subnet-3"]}, (), CACHE),
    (ANOTHER_KEY, (KMS_KEY,), CACHE),
    ({"create_key": False}, (), KMS_KEY),
    ({"create": False}, (KMS_KEY,), CACHE),
]
MAJOR_VERSION: tuple[dict[str, Any], tuple[str, ...], str] = (
    {"major_engine_version": "9"},
    (),
    CACHE,
)
MAJOR_VERSION_IN_PLACE = (6, 31)  # since this version of the provider


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
    """Limits, snapshots and the like never replace the cache, and each of them arrives."""
    state = applied()
    (cache,) = (
        one for one in state["resources"] if one["type"] == "aws_elasticache_serverless_cache"
    )
    cache["instances"][0]["attributes"] |= {
        "user_group_id": None,
        "security_group_ids": ["sg-else"],
    }
    printed = _plan(module, IN_PLACE, "-out=plan", state=state)
    if "Instance cannot be destroyed" in printed:
        raise Failure(f"{IN_PLACE} should not replace the cache:\n{printed}")
    plan = json.loads(run("terraform", "show", "-json", "plan", place=module))
    (found,) = (one["change"] for one in plan["resource_changes"] if one["address"] == CACHE)
    after = {name: found["after"].get(name) for name in CHANGED}
    if found["actions"] != ["update"] or after != CHANGED:
        raise Failure(f"{IN_PLACE} should change the cache in place into {CHANGED}, not {found}")


def replacement_is_refused(module: Path) -> None:
    """What only a new cache can have is refused."""
    refused = REFUSED if _version(module) >= MAJOR_VERSION_IN_PLACE else [*REFUSED, MAJOR_VERSION]
    for change, without, resource in refused:
        _must_be_refused(_plan(module, change, without=without), [resource], str(change))


def _version(module: Path) -> tuple[int, ...]:
    """Of the AWS provider that the folder was initialised with."""
    printed = run("terraform", "version", "-json", place=module)
    return tuple(map(int, json.loads(printed)["provider_selections"][AWS].split(".")[:2]))


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
    module: Path,
    change: dict[str, Any],
    *options: str,
    without: tuple[str, ...] = (),
    state: dict[str, Any] | None = None,
) -> str:
    variables = [
        f"-var={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in (GIVEN | change).items()
    ]
    state = state or applied()
    state["resources"] = [
        one for one in state["resources"] if f"{one['type']}.{one['name']}[0]" not in without
    ]
    files = {module / "offline.tf": PROVIDER, module / "terraform.tfstate": json.dumps(state)}
    for path, content in files.items():
        path.write_text(content)
    try:
        printed = attempt(
            "terraform", "plan", "-no-color", "-input=false", "-lock=false", "-refresh=false",
            *options, *variables, place=module,
        ).stdout  # fmt: skip
    finally:
        for path in files:
            path.unlink()
    if set(re.findall(r"^Error: (.*)$", printed, re.MULTILINE)) - {"Instance cannot be destroyed"}:
        raise CommandFailure(f"{change} should be planned:\n{printed}")
    return printed


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
        "provider": f'provider["{AWS}"]',
        "instances": [{"index_key": 0, "schema_version": version, "attributes": attributes}],
    }
