"""The module is applied, planned again and destroyed, against a stand-in for AWS (``cloud.py``).

The example ``everything-new``, with all that the module makes, and then a plan of ``existing-vpc``
in the network that it made: so the real provider reads and writes everything, and asks about
subnets and zones. It is destroyed as README.md tells.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cloud
from commands import MODULE, Failure, attempt, run

SECRET = "a-password-that-no-state-holds"  # noqa: S105 (of the stand-in's user)
OUTSIDE = "post-dedup-outside"  # the user of README.md, made by another than Terraform
VARIABLES = (f"-var=region={cloud.REGION}", "-var=alarm_email=ops@example.com")
# What the example does not use, given to the module by an override file.
MODULE_TOO = f"""
module "dedup" {{
  spider_cidrs      = {{ office = "10.8.0.0/24" }}
  password_user_ids = ["{OUTSIDE}"]
}}
"""
STAYS = {"aws_elasticache_serverless_cache", "aws_kms_key"}  # prevent_destroy


def check(module: Path) -> None:
    """Fails unless all of it works. The folders of the examples must be initialised."""
    place = module / "examples" / "everything-new"
    with cloud.stand_in() as url:
        _make_user_outside(url)
        (place / "stand_in_override.tf").write_text(cloud.provider(url) + MODULE_TOO)
        _terraform(place, "apply", "-auto-approve", *VARIABLES)
        _holds_no_secret(place / "terraform.tfstate")
        _users_are_in_the_group(url)
        _nothing_is_left_to_change(place)
        _existing_vpc_is_checked(module / "examples" / "existing-vpc", url)
        _destroy(place, url)
        _only_the_key_is_left(place, url)


def _make_user_outside(url: str) -> None:
    cloud.client("elasticache", url).create_user(
        UserId=OUTSIDE, UserName=OUTSIDE, Engine="valkey", AccessString="on ~vd1:* -@all",
        AuthenticationMode={"Type": "password", "Passwords": [SECRET]},
    )  # fmt: skip


def _terraform(place: Path, command: str, *options: str) -> str:
    return run("terraform", command, "-no-color", "-input=false", *options, place=place)


def _holds_no_secret(state: Path) -> None:
    if SECRET in state.read_text():
        raise Failure(f"the state holds the password of {OUTSIDE}")


def _users_are_in_the_group(url: str) -> None:
    (group,) = cloud.client("elasticache", url).describe_user_groups(UserGroupId="post-dedup")[
        "UserGroups"
    ]
    if set(group["UserIds"]) != {"post-dedup-spider", OUTSIDE}:
        raise Failure(f"the user group should hold both users, not {group['UserIds']}")


def _nothing_is_left_to_change(place: Path) -> None:
    ended = attempt(
        "terraform",
        "plan",
        "-no-color",
        "-input=false",
        "-detailed-exitcode",
        *VARIABLES,
        place=place,
    )
    if ended.returncode:
        raise Failure(f"a plan after the apply should change nothing:\n{ended.stdout}")


def _existing_vpc_is_checked(place: Path, url: str) -> None:
    """Private subnets are accepted; one with a way to the internet is not."""
    (place / "stand_in_override.tf").write_text(cloud.provider(url))
    ec2 = cloud.client("ec2", url)
    subnets = {
        tag["Value"]: subnet
        for subnet in ec2.describe_subnets()["Subnets"]
        for tag in subnet.get("Tags", [])
        if tag["Key"] == "Name"
    }
    private = sorted(subnet["SubnetId"] for name, subnet in subnets.items() if "-cache-" in name)
    public = subnets["post-dedup-spiders"]
    given = (
        f"-var=region={cloud.REGION}", f"-var=vpc_id={public['VpcId']}",
        "-var=spider_security_group_id=sg-spiders", "-var=spider_role_name=spiders",
    )  # fmt: skip
    _terraform(place, "plan", *given, f"-var=subnet_ids={json.dumps(private)}")
    command = ["terraform", "plan", "-no-color", "-input=false", *given]
    wrong = json.dumps([private[1], public["SubnetId"]])
    refused = attempt(*command, f"-var=subnet_ids={wrong}", place=place)
    if f"{public['SubnetId']} is not private" not in " ".join(refused.stdout.split()):
        raise Failure(f"a public subnet should be refused:\n{refused.stdout}")


def _destroy(place: Path, url: str) -> None:
    """Step by step what README.md says, under "Destroy on purpose"."""
    page = (MODULE / "README.md").read_text()
    section = page[page.index("## Destroy on purpose") :]
    (out,) = re.findall(r"^ +terraform state rm (.*)$", section, re.MULTILINE)
    run("terraform", "state", "rm", *out.replace("'", "").split(), place=place)
    (name,) = re.findall(r"delete-serverless-cache --serverless-cache-name (\S+)", section)
    cloud.client("elasticache", url).delete_serverless_cache(ServerlessCacheName=name)
    _terraform(place, "destroy", "-auto-approve", *VARIABLES)


def _only_the_key_is_left(place: Path, url: str) -> None:
    left = json.loads((place / "terraform.tfstate").read_text())["resources"]
    if left:
        raise Failure(f"after the destroy the state should be empty, not {left}")
    found: dict[str, Any] = {
        "alarms": cloud.client("cloudwatch", url).describe_alarms()["MetricAlarms"],
        "users": [
            user["UserId"]
            for user in cloud.client("elasticache", url).describe_users()["Users"]
            if user["UserId"] not in {"default", OUTSIDE}
        ],
        "networks": cloud.client("ec2", url).describe_vpcs(
            Filters=[{"Name": "cidr", "Values": ["10.20.0.0/16"]}]
        )["Vpcs"],
    }
    if any(found.values()):
        raise Failure(f"after the destroy there are still {found}")
    if len(cloud.client("kms", url).list_keys()["Keys"]) != 1:
        raise Failure("the key should stay: without it the last snapshot is unreadable")
