"""A stand-in for AWS on this machine, to apply the module against: moto, and what moto lacks.

moto knows neither serverless caches nor user groups, and of budgets neither tags nor subscribers.
They are added here as far as the provider asks for them. Parameters and answers have the names of
AWS's own service model, by which moto reads and writes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REGION = "eu-central-1"
ENDPOINTS = ("budgets", "cloudwatch", "ec2", "elasticache", "iam", "kms", "sns", "sts")


@contextmanager
def stand_in() -> Iterator[str]:
    """The URL of the stand-in, which forgets everything at its end."""
    # Takes seconds, and only one step of check.py needs it.
    from moto.server import ThreadedMotoServer

    _add_caches_and_groups()
    _add_to_budgets()
    _mend_rules()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def provider(url: str) -> str:
    """What makes an example's AWS provider ask the stand-in; Terraform merges the two blocks."""
    endpoints = "\n".join(f'    {name} = "{url}"' for name in ENDPOINTS)
    return f"""\
provider "aws" {{
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  max_retries                 = 5

  endpoints {{
{endpoints}
  }}
}}
"""


def client(service: str, url: str) -> Any:
    """A client of the stand-in, for what README.md does with ``aws``."""
    import boto3

    return boto3.client(
        service, endpoint_url=url, region_name=REGION,
        aws_access_key_id="none", aws_secret_access_key="none",  # noqa: S106 (moto's need not be right)
    )  # fmt: skip


class _Kept:
    """Serverless caches, or user groups: what was given, by name."""

    def __init__(self, kind: str, key: str, ready: str) -> None:
        self.kind, self.key, self.ready = kind, key, ready
        self.all: dict[str, dict[str, Any]] = {}

    def create(self, response: Any, **more: Any) -> dict[str, Any]:
        given = response._get_params()
        name = given[self.key]
        arn = f"arn:aws:elasticache:{REGION}:{response.current_account}:{self.kind.lower()}:{name}"
        response.elasticache_backend.add_tags_to_resource(arn, given.pop("Tags", []))
        self.all[name] = given | {"ARN": arn, "Status": self.ready} | more
        return self.all[name]

    def found(self, response: Any) -> list[dict[str, Any]]:
        from moto.core.exceptions import ServiceException

        name = response._get_param(self.key)
        if name in self.all:
            return [self.all[name]]

        class NotFoundError(ServiceException):
            code = f"{self.kind}NotFoundFault"

        raise NotFoundError(f"{name} not found")

    def deleted(self, response: Any) -> dict[str, Any]:
        (one,) = self.found(response)
        return self.all.pop(one[self.key])


def _add_caches_and_groups() -> None:
    from moto.core.responses import ActionResult
    from moto.elasticache.responses import ElastiCacheResponse

    caches = _Kept("ServerlessCache", "ServerlessCacheName", "available")
    groups = _Kept("UserGroup", "UserGroupId", "active")

    def create_cache(self: Any) -> ActionResult:
        version = self._get_param("MajorEngineVersion")
        name = self._get_param("ServerlessCacheName")
        address = f"{name}-abc123.serverless.euc1.cache.amazonaws.com"
        cache = caches.create(
            self,
            FullEngineVersion=f"{version}.1",
            Endpoint={"Address": address, "Port": 6379},
            ReaderEndpoint={"Address": address, "Port": 6380},
            CreateTime="2026-11-22T00:00:00Z",
        )
        return ActionResult({"ServerlessCache": cache})

    def list_tags(self: Any) -> ActionResult:
        # moto's own refuses ARNs of kinds that it does not know.
        service = self.elasticache_backend.tagging_service
        tags = service.list_tags_for_resource(self._get_param("ResourceName"))
        return ActionResult({"TagList": tags["Tags"]})

    actions = {
        "create_serverless_cache": create_cache,
        "describe_serverless_caches": lambda self: ActionResult(
            {"ServerlessCaches": caches.found(self)}
        ),
        "delete_serverless_cache": lambda self: ActionResult(
            {"ServerlessCache": caches.deleted(self)}
        ),
        "create_user_group": lambda self: ActionResult(groups.create(self)),
        "describe_user_groups": lambda self: ActionResult({"UserGroups": groups.found(self)}),
        "delete_user_group": lambda self: ActionResult(groups.deleted(self)),
        "list_tags_for_resource": list_tags,
    }
    for name, action in actions.items():
        setattr(ElastiCacheResponse, name, action)


def _add_to_budgets() -> None:
    from moto.budgets.responses import BudgetsResponse

    tags: dict[str, Any] = {}
    create = BudgetsResponse.create_budget

    def create_budget(self: Any) -> str:
        tags[self._get_param("Budget")["BudgetName"]] = self._get_param("ResourceTags")
        return create(self)

    def list_tags(self: Any) -> str:
        name = self._get_param("ResourceARN").rpartition("/")[2]
        return json.dumps({"ResourceTags": tags[name]})

    def subscribers(self: Any) -> str:
        budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
        (found,) = (
            one.subscribers
            for one in budget.notifications
            if one.details["NotificationType"]
            == self._get_param("Notification")["NotificationType"]
        )
        return json.dumps({"Subscribers": found})

    BudgetsResponse.create_budget = create_budget
    BudgetsResponse.list_tags_for_resource = list_tags
    BudgetsResponse.describe_subscribers_for_notification = subscribers


def _mend_rules() -> None:
    """Rules that name a group have a description, too, which moto keeps and does not tell."""
    from moto.ec2.models.security_groups import SecurityGroupRule

    SecurityGroupRule.description = property(
        lambda rule: rule.ip_range.get("Description") or rule.source_group.get("Description")
    )
