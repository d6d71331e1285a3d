"""Deliberate faults of the module, each of which a test must notice.

A breakage replaces text in one file of a copy. What is to fail is a file of ``terraform test``
(``noticed.py``), or a check of ``protection.py``, ``examples.py`` or ``providers.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailure, Failure
from examples import LOOKS
from protection import changes_in_place, destruction_is_refused, replacement_is_refused
from providers import bounds

PLANS: dict[str, Callable[[Path], None]] = {
    **LOOKS,
    "bounds": bounds,
    "in place": changes_in_place,
    "replacement": replacement_is_refused,
    "destruction": destruction_is_refused,
}


@dataclass(frozen=True)
class Breakage:
    """One fault: what it is, where, and which tests are to notice."""

    what: str
    file: str
    right: str
    wrong: str
    tests: str


BREAKAGES = [
    # The cache and its key
    Breakage("anybody in the VPC may log in", "main.tf",
             "aws_elasticache_user_group.spiders[0].user_group_id", "null", "cache"),
    Breakage("AWS's key instead of the customer's", "main.tf",
             "kms_key_id         = local.key_arn", "kms_key_id         = null", "cache"),
    Breakage("a key of your own that is not used", "main.tf",
             "one(aws_kms_key.cache[*].arn) : var.kms_key_arn",
             "one(aws_kms_key.cache[*].arn) : null", "key"),
    Breakage("a key that nobody asked for", "main.tf",
             """resource "aws_kms_key" "cache" {
  count = var.create && var.create_key ? 1 : 0""",
             """resource "aws_kms_key" "cache" {
  count = var.create ? 1 : 0""", "key"),
    Breakage("a switch that leaves the budget on", "alarms.tf",
             "var.create && var.monthly_budget_usd != null", "var.monthly_budget_usd != null",
             "outputs"),
    Breakage("a timeout that is not heard", "main.tf",
             "create = var.timeouts.create", "create = null", "outputs"),
    Breakage("another engine", "main.tf", '"valkey"', '"redis"', "cache"),
    Breakage("ten times the storage", "main.tf",
             "= var.storage_maximum_gb", "= var.storage_maximum_gb * 10", "cache"),
    Breakage("another default of ECPU", "variables.tf", "= 5000\n", "= 15000\n", "cache"),
    Breakage("no snapshots", "main.tf", "= var.snapshot_retention_days", "= 0", "cache"),
    Breakage("a key that never rotates", "main.tf",
             "enable_key_rotation     = true", "enable_key_rotation     = false", "key"),
    Breakage("everybody may administer the key", "main.tf",
             "sort(var.key_administrator_arns) : [local.root_arn]", '["*"] : ["*"]', "key"),
    Breakage("the key decrypts for other services, too", "main.tf",
             "        Condition = { StringEquals = local.through_elasticache }", "", "key"),
    Breakage("a key that gives ElastiCache no grants", "main.tf",
             'Action    = ["kms:CreateGrant"]', 'Action    = ["kms:DescribeKey"]', "key"),
    Breakage("a key that decrypts nothing", "main.tf", '          "kms:Decrypt",\n', "", "key"),
    Breakage("a key without keys for data", "main.tf",
             '          "kms:GenerateDataKey",\n', "", "key"),
    Breakage("administrators who may re-encrypt", "main.tf",
             '"kms:RevokeGrant",', '"kms:RevokeGrant", "kms:ReEncryptFrom",', "key"),
    Breakage("administrators who cannot describe the key", "main.tf",
             '"kms:DescribeKey",\n          "kms:DisableKey",', '"kms:DisableKey",', "key"),
    Breakage("a partition that is written down", "main.tf",
             "arn:${data.aws_partition.current.partition}:", "arn:aws:", "key"),
    Breakage("ElastiCache by one name only in China", "main.tf",
             "elasticache.${local.region}.${data.aws_partition.current.dns_suffix}",
             "elasticache.${local.region}.amazonaws.com", "key"),
    Breakage("subnets with a way to the internet", "subnets.tf",
             "!anytrue([", "self.id != null || !anytrue([", "subnets"),
    Breakage("every subnet taken for one on the main route table", "subnets.tf",
             '? "association.subnet-id" : "association.main"',
             '? "association.main" : "association.main"', "subnets"),
    # Access
    Breakage("a rule that is open to the world", "access.tf",
             "referenced_security_group_id = each.value", 'cidr_ipv4 = "0.0.0.0/0"', "access"),
    Breakage("a network that is wider than given", "access.tf",
             "cidr_ipv4         = each.value", 'cidr_ipv4 = "10.0.0.0/8"', "access"),
    Breakage("stale reads on 6380", "access.tf",
             "to_port                      = local.port", "to_port = 6380", "access"),
    Breakage("stale reads for networks", "access.tf",
             "to_port           = local.port", "to_port = 6380", "access"),
    Breakage("a user of one namespace who reads all", "access.tf",
             '"~vd1:*", join', '"~none", join', "access"),
    Breakage("posts of other namespaces that begin alike", "access.tf",
             '["}*", ":*", "+*"]', '["*"]', "access"),
    Breakage("users with passwords who stay outside", "access.tf",
             ", tolist(var.password_user_ids))", ")", "access"),
    Breakage("a role with the policy of another namespace", "access.tf",
             "aws_iam_policy.connect[each.value.user].arn",
             "values(aws_iam_policy.connect)[0].arn", "access"),
    Breakage("a user who may do anything", "access.tf", '"-@all"', '"+@all"', "access"),
    Breakage("a user without a password", "access.tf",
             '"iam"', '"no-password-required"', "access"),
    Breakage("a policy that allows all of ElastiCache", "access.tf",
             '["elasticache:Connect"]', '["elasticache:*"]', "access"),
    Breakage("a policy that forgets the user", "access.tf",
             "          user.arn,\n", "", "access"),
    # Alarms
    Breakage("a dimension that serverless caches lack", "alarms.tf",
             "{ clusterId =", "{ CacheClusterId =", "alarms"),
    Breakage("a minute's ECPU compared with a second's limit", "alarms.tf",
             "var.ecpu_maximum_per_second * local.minute", "var.ecpu_maximum_per_second", "alarms"),
    Breakage("expired keys instead of evicted ones", "alarms.tf",
             '= "Evictions"\n', '= "Reclaimed"\n', "alarms"),
    Breakage("milliseconds taken for microseconds", "alarms.tf",
             "var.alarm_latency_ms * 1000", "var.alarm_latency_ms", "alarms"),
    Breakage("alarms that tell nobody", "alarms.tf",
             "alarm_actions      = var.alarm_topic_arn[*]", "alarm_actions = []", "alarms"),
    Breakage("slow scripts that nobody is told of", "alarms.tf",
             "alarm_actions       = var.alarm_topic_arn[*]", "alarm_actions = []", "alarms"),
    Breakage("ECPU taken for microseconds", "alarms.tf",
             '"3 * ecpu / calls"', '"ecpu / calls"', "alarms"),
    Breakage("a dashboard that averages what is counted", "alarms.tf",
             '["Evictions", "ThrottledCmds"], stat = "Sum"',
             '["Evictions", "ThrottledCmds"], stat = "Average"', "alarms"),
    Breakage("a dashboard that adds up latencies", "alarms.tf",
             'stat = "Average"', 'stat = "Sum"', "alarms"),
    Breakage("a dashboard by other minutes than its limits", "alarms.tf",
             "period      = local.minute\n        stat", "period      = 300\n        stat",
             "alarms"),
    Breakage("scripts that the dashboard does not show", "alarms.tf",
             'metrics = ["EvalBasedCmdsECPUs"]', 'metrics = ["SetTypeCmdsECPUs"]', "alarms"),
    # Validations and outputs
    Breakage("a snapshot at 24:00", "variables.tf",
             "([01][0-9]|2[0-3]):", "[0-9]{2}:", "validation"),
    Breakage("a validation that lets the world in", "variables.tf",
             'startswith(id, "sg-")', 'id != ""', "validation"),
    Breakage("a network that is the world", "variables.tf",
             'split("/", cidr)[1]) >= 8', 'split("/", cidr)[1]) >= 0', "validation"),
    Breakage("a key by its alias", "variables.tf", ":key/.+$", ":.+$", "validation"),
    Breakage("the reader's endpoint", "outputs.tf",
             "this[*].endpoint))", "this[*].reader_endpoint))", "outputs"),
    Breakage("settings without TLS", "settings.py.tftpl", "valkeys://", "valkey://", "outputs"),
    Breakage("settings of a namespace that do not name it", "settings.py.tftpl",
             'VALKEY_DEDUP_NAMESPACE = "${namespace}"', "", "access"),
    # What a cache full of posts is protected from
    Breakage("a cache that may be replaced", "main.tf",
             "prevent_destroy = true\n    # A cache", "# A cache", "replacement"),
    Breakage("a key that may be destroyed", "main.tf",
             "be read.\n    prevent_destroy = true", "be read.", "destruction"),
    Breakage("a restored cache that is replaced later", "main.tf",
             "ignore_changes = [snapshot_arns_to_restore]", "", "in place"),
    Breakage("limits that never change", "main.tf",
             "[snapshot_arns_to_restore]", "[snapshot_arns_to_restore, cache_usage_limits]",
             "in place"),
    Breakage("a user group that is lost for good", "main.tf",
             "[snapshot_arns_to_restore]", "[snapshot_arns_to_restore, user_group_id]",
             "in place"),
    # Versions and examples
    Breakage("a provider without an upper end", "versions.tf",
             '">= 5.100, < 7"', '">= 5.100"', "bounds"),
    Breakage("an example that accepts another provider", "examples/existing-vpc/main.tf",
             '">= 5.100, < 7"', '"~> 5.100"', "bounds"),
    Breakage("an example without alarms", "examples/existing-vpc/main.tf",
             "  alarm_topic_arn           = var.alarm_topic_arn\n", "", "existing-vpc"),
    Breakage("spiders that may not call the cache", "examples/everything-new/main.tf",
             "  from_port                    = 6379\n  to_port                      = 6379",
             "  from_port = 6380\n  to_port = 6380", "everything-new"),
    Breakage("spiders that may not call the web", "examples/everything-new/main.tf",
             "{ http = 80, https = 443 }", "{ https = 443 }", "everything-new"),
    Breakage("a network without DNS", "examples/everything-new/main.tf",
             "enable_dns_hostnames = true", "enable_dns_hostnames = false", "everything-new"),
    Breakage("a route to nowhere", "examples/everything-new/main.tf",
             'destination_cidr_block = "0.0.0.0/0"', 'destination_cidr_block = "192.0.2.0/24"',
             "everything-new"),
    Breakage("a way to the internet for the cache", "examples/everything-new/main.tf",
             "subnet_id      = aws_subnet.spiders.id", "subnet_id      = aws_subnet.cache[0].id",
             "everything-new"),
    Breakage("a role for others than instances", "examples/everything-new/main.tf",
             'service_name = "ec2"', 'service_name = "lambda"', "everything-new"),
    Breakage("alarms without a topic", "examples/everything-new/main.tf",
             "  alarm_topic_arn           = aws_sns_topic.alarms.arn\n", "", "everything-new"),
    Breakage("an e-mail that is never subscribed", "examples/everything-new/main.tf",
             "count = var.alarm_email == null ? 0 : 1", "count = 0", "everything-new"),
]  # fmt: skip


def plans_must_notice(breakage: Breakage, module: Path) -> None:
    """Breaks a copy of the module, plans, mends it. Fails if nobody noticed."""
    with broken([breakage], module):
        try:
            PLANS[breakage.tests](module)
        except CommandFailure as failure:  # a syntax error is no fault that is noticed
            raise Failure(f"broken otherwise than meant:\n{failure}") from None
        except Failure:
            return
        raise Failure(f"no test noticed a breakage: {breakage.what} ({breakage.file})")


@contextmanager
def broken(breakages: Sequence[Breakage], module: Path) -> Iterator[None]:
    """A copy of the module with these faults, for a while."""
    whole = {breakage.file: (module / breakage.file).read_text() for breakage in breakages}
    try:
        for breakage in breakages:
            path = module / breakage.file
            text = path.read_text()
            if text.count(breakage.right) != 1:
                raise Failure(
                    f"breakages.py: {breakage.file} does not say once: {breakage.right!r}"
                )
            path.write_text(text.replace(breakage.right, breakage.wrong))
        yield
    finally:
        for name, text in whole.items():
            (module / name).write_text(text)
