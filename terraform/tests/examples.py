"""Both examples are planned by the real provider, without credentials; the plans are looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import Failure, init, run
from protection import PROVIDER

VARIABLES = {
    "existing-vpc": [
        "-var=vpc_id=vpc-1",
        '-var=subnet_ids=["subnet-1","subnet-2"]',
        "-var=check_subnets=false",  # it asks AWS
        "-var=spider_security_group_id=sg-spiders",
        "-var=spider_role_name=spiders",
    ],
    "everything-new": ["-var=alarm_email=ops@example.com"],
}
OF_THE_MODULE = {
    "aws_cloudwatch_dashboard": 1,
    "aws_cloudwatch_metric_alarm": 10,
    "aws_elasticache_serverless_cache": 1,
    "aws_elasticache_user": 1,
    "aws_elasticache_user_group": 1,
    "aws_iam_policy": 1,
    "aws_iam_role_policy_attachment": 1,
    "aws_kms_alias": 1,
    "aws_kms_key": 1,
    "aws_security_group": 1,
    "aws_vpc_security_group_ingress_rule": 1,
}


def check(module: Path, providers: Path) -> None:
    """Fails unless each folder of examples has a plan, and the plans are as they should be."""
    folders = {path.name for path in (module / "examples").iterdir() if path.is_dir()}
    if folders != set(VARIABLES):
        raise Failure(f"examples: planned are {sorted(VARIABLES)}, there are {sorted(folders)}")
    for name in sorted(folders):
        place = module / "examples" / name
        init(place, providers)
        run("terraform", "validate", "-no-color", place=place)
        # Merged with the example's own block: dummy keys, and no questions to AWS.
        region = 'region                      = "eu-central-1"\n'
        (place / "offline_override.tf").write_text(PROVIDER.replace(region, ""))
        command = [
            "plan",
            "-no-color",
            "-input=false",
            "-lock=false",
            "-refresh=false",
            "-out=plan",
        ]
        run("terraform", *command, *VARIABLES[name], place=place)
        plan = json.loads(run("terraform", "show", "-json", "plan", place=place))
        _look_at(name, plan["planned_values"]["root_module"])


def _look_at(example: str, root: dict[str, Any]) -> None:
    (dedup,) = root["child_modules"]
    made = [found for found in dedup["resources"] if found["mode"] == "managed"]
    found = Counter(resource["type"] for resource in made)
    budgets = found.pop("aws_budgets_budget", 0)
    if found != OF_THE_MODULE or budgets != (example == "everything-new"):
        raise Failure(f"{example}: the module makes {dict(found)} and {budgets} budgets")
    for resource in _resources(root):
        if _is_open(resource):
            raise Failure(
                f"{example}: {resource['address']} lets addresses in: {resource['values']}"
            )


def _resources(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _resources(child)


def _is_open(resource: dict[str, Any]) -> bool:
    """Whether it lets in anything but a security group. Spiders may call out wherever they like."""
    values = resource["values"]
    if resource["type"] == "aws_security_group_rule":
        return bool(values["type"] == "ingress")  # the old kind of rule, which nothing here uses
    if resource["type"] in {"aws_security_group", "aws_default_security_group"}:
        return bool(values.get("ingress"))
    if resource["type"] == "aws_vpc_security_group_ingress_rule":
        return any(values.get(name) for name in ("cidr_ipv4", "cidr_ipv6", "prefix_list_id"))
    return False
