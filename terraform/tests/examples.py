"""Both examples are planned by the real provider, without credentials; the plans are looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from commands import Failure, run
from protection import PROVIDER

TOPIC = "arn:aws:sns:us-east-1:123456789012:on-call"
EMAIL = "ops@example.com"
VARIABLES = {
    "existing-vpc": [
        "-var=vpc_id=vpc-1",
        '-var=subnet_ids=["subnet-1","subnet-2"]',
        "-var=check_subnets=false",  # it asks AWS
        "-var=spider_security_group_id=sg-spiders",
        "-var=spider_role_name=spiders",
        f"-var=alarm_topic_arn={TOPIC}",
    ],
    "everything-new": [
        f"-var=alarm_email={EMAIL}",
        '-var=zones=["us-east-1a","us-east-1b"]',  # without them it asks AWS
    ],
}
OF_THE_MODULE = {
    "aws_cloudwatch_dashboard": 1,
    "aws_cloudwatch_metric_alarm": 11,
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


def check(module: Path) -> None:
    """Fails unless each folder of examples has a plan, and the plans are as they should be."""
    folders = {path.name for path in (module / "examples").iterdir() if path.is_dir()}
    if folders != set(VARIABLES):
        raise Failure(f"examples: planned are {sorted(VARIABLES)}, there are {sorted(folders)}")
    for look in LOOKS.values():
        look(module)


def existing_vpc(module: Path) -> None:
    """The example in a VPC that is there: what it makes, and whom it tells."""
    plan = _plan(module, "existing-vpc")
    made = _look_at_module("existing-vpc", plan, budgets=0)
    told = {tuple(one["alarm_actions"]) for one in _of(made, "aws_cloudwatch_metric_alarm")}
    if told != {(TOPIC,)}:
        raise Failure(f"existing-vpc: the alarms should go to {TOPIC}, not to {told}")


def everything_new(module: Path) -> None:
    """The example with a network: names are resolved, spiders get out, somebody hears of alarms."""
    plan = _plan(module, "everything-new")
    _look_at_module("everything-new", plan, budgets=1)
    laws = _network(plan) | _alarms(plan) | _role(plan)
    wrong = [law for law, holds in laws.items() if not holds]
    if wrong:
        raise Failure(f"everything-new: it should hold that {'; '.join(wrong)}")


def _network(plan: dict[str, Any]) -> dict[str, bool]:
    """What must hold of the network, and whether it does."""
    root = plan["planned_values"]["root_module"]["resources"]
    (vpc,) = _of(root, "aws_vpc")
    (route,) = _of(root, "aws_route")
    egress = {
        (rule["cidr_ipv4"], rule["ip_protocol"], rule["from_port"], rule["to_port"])
        for rule in _of(root, "aws_vpc_security_group_egress_rule")
    }
    web = {("0.0.0.0/0", "tcp", port, port) for port in (80, 443)}
    to_cache = "aws_vpc_security_group_egress_rule.cache.referenced_security_group_id"
    associated = "aws_route_table_association.spiders"
    return {
        "the name of the cache is resolved": (
            vpc["enable_dns_support"] and vpc["enable_dns_hostnames"]
        ),
        "spiders reach the web, and on 6379 the cache": (
            egress == {*web, (None, "tcp", 6379, 6379)}
            and _refers(plan, to_cache) == "module.dedup.security_group_id"
        ),
        "the spiders' subnet has a way to the internet": (
            route["destination_cidr_block"] == "0.0.0.0/0"
            and _refers(plan, "aws_route.internet.gateway_id") == "aws_internet_gateway.this.id"
            and _refers(plan, "aws_route.internet.route_table_id") == "aws_route_table.spiders.id"
            and _refers(plan, f"{associated}.route_table_id") == "aws_route_table.spiders.id"
            and _refers(plan, f"{associated}.subnet_id") == "aws_subnet.spiders.id"
        ),
        "no other subnet has": len(_of(root, "aws_route_table_association")) == 1,
    }


def _role(plan: dict[str, Any]) -> dict[str, bool]:
    """What must hold of the spiders' role, and whether it does."""
    (role,) = _of(plan["planned_values"]["root_module"]["resources"], "aws_iam_role")
    (trust,) = json.loads(role["assume_role_policy"])["Statement"]
    return {
        "EC2 may take the spiders' role": (
            trust["Principal"] == {"Service": "ec2.amazonaws.com"}
            and trust["Action"] == "sts:AssumeRole"
        )
    }


def _alarms(plan: dict[str, Any]) -> dict[str, bool]:
    """What must hold of the alarms, and whether it does."""
    root = plan["planned_values"]["root_module"]["resources"]
    subscribed = [
        (one["protocol"], one["endpoint"]) for one in _of(root, "aws_sns_topic_subscription")
    ]
    topic = plan["configuration"]["root_module"]["module_calls"]["dedup"]["expressions"].get(
        "alarm_topic_arn", {"references": [""]}
    )
    return {
        "the alarms go to the topic": topic["references"][0] == "aws_sns_topic.alarms.arn",
        "the e-mail is subscribed to it": (
            subscribed == [("email", EMAIL)]
            and _refers(plan, "aws_sns_topic_subscription.email.topic_arn")
            == "aws_sns_topic.alarms.arn"
        ),
    }


LOOKS: dict[str, Callable[[Path], None]] = {
    "existing-vpc": existing_vpc,
    "everything-new": everything_new,
}


def _plan(module: Path, name: str) -> dict[str, Any]:
    place = module / "examples" / name
    # Merged with the example's own block: dummy keys, and no questions to AWS.
    region = 'region                      = "eu-central-1"\n'
    override = place / "offline_override.tf"
    override.write_text(PROVIDER.replace(region, ""))
    command = ["plan", "-no-color", "-input=false", "-lock=false", "-refresh=false", "-out=plan"]
    try:
        run("terraform", *command, *VARIABLES[name], place=place)
        return dict(json.loads(run("terraform", "show", "-json", "plan", place=place)))
    finally:
        override.unlink()


def _look_at_module(example: str, plan: dict[str, Any], budgets: int) -> list[dict[str, Any]]:
    root = plan["planned_values"]["root_module"]
    (dedup,) = root["child_modules"]
    made = [found for found in dedup["resources"] if found["mode"] == "managed"]
    found = Counter(resource["type"] for resource in made)
    found_budgets = found.pop("aws_budgets_budget", 0)
    if found != OF_THE_MODULE or found_budgets != budgets:
        raise Failure(f"{example}: the module makes {dict(found)} and {found_budgets} budgets")
    for resource in _resources(root):
        if _is_open(resource):
            raise Failure(
                f"{example}: {resource['address']} lets addresses in: {resource['values']}"
            )
    return made


def _of(resources: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one["values"] for one in resources if one["type"] == kind]


def _refers(plan: dict[str, Any], argument: str) -> str:
    """What an argument takes its value from, which a plan does not know yet."""
    address, _, name = argument.rpartition(".")
    configured = plan["configuration"]["root_module"]["resources"]
    (found,) = (one for one in configured if one["address"] == address)
    return str(found["expressions"].get(name, {}).get("references", [""])[0])


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
