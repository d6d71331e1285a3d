"""Deliberate faults of the module, each of which a test must notice.

A breakage replaces text in one file of a copy and runs the tests that are to fail: a file of
``terraform test``, or a check of ``protection.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commands import Failure, attempt, run
from protection import changes_in_place, destruction_is_refused, replacement_is_refused

PLANS: dict[str, Callable[[Path], None]] = {
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
             "aws_elasticache_user_group.spiders.user_group_id", "null", "cache"),
    Breakage("AWS's key instead of the customer's", "main.tf",
             "kms_key_id         = aws_kms_key.cache.arn", "kms_key_id         = null", "cache"),
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
    Breakage("subnets that give out public addresses", "main.tf",
             "!self.map_public_ip_on_launch", "self.id != null", "subnets"),
    # Access
    Breakage("a rule that is open to the world", "access.tf",
             "referenced_security_group_id = each.value", 'cidr_ipv4 = "0.0.0.0/0"', "access"),
    Breakage("stale reads on 6380", "access.tf",
             "to_port                      = local.port", "to_port = 6380", "access"),
    Breakage("a user who may do anything", "access.tf", '"-@all"', '"+@all"', "access"),
    Breakage("a user without a password", "access.tf",
             '"iam"', '"no-password-required"', "access"),
    Breakage("a policy that allows all of ElastiCache", "access.tf",
             '["elasticache:Connect"]', '["elasticache:*"]', "access"),
    Breakage("a policy that forgets the user", "access.tf",
             "        aws_elasticache_user.spider.arn,\n", "", "access"),
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
    # Validations and outputs
    Breakage("a snapshot at 24:00", "variables.tf",
             "([01][0-9]|2[0-3]):", "[0-9]{2}:", "validation"),
    Breakage("a validation that lets the world in", "variables.tf",
             'startswith(id, "sg-")', 'id != ""', "validation"),
    Breakage("the reader's endpoint", "outputs.tf",
             "one(aws_elasticache_serverless_cache.this.endpoint)",
             "one(aws_elasticache_serverless_cache.this.reader_endpoint)", "outputs"),
    Breakage("settings without TLS", "outputs.tf", "valkeys://", "valkey://", "outputs"),
    # What a cache full of posts is protected from
    Breakage("a cache that may be replaced", "main.tf",
             "prevent_destroy = true\n    # A cache", "# A cache", "replacement"),
    Breakage("a key that may be destroyed", "main.tf",
             "be read.\n    prevent_destroy = true", "be read.", "destruction"),
    Breakage("a restored cache that is replaced later", "main.tf",
             "ignore_changes = [snapshot_arns_to_restore]", "", "in place"),
]  # fmt: skip


def must_be_noticed(breakage: Breakage, module: Path) -> None:
    """Breaks a copy of the module, runs the tests, mends it. Fails if nobody noticed."""
    path = module / breakage.file
    whole = path.read_text()
    if whole.count(breakage.right) != 1:
        raise Failure(f"breakages.py: {breakage.file} does not say once: {breakage.right!r}")
    path.write_text(whole.replace(breakage.right, breakage.wrong))
    notices = _plans_notice if breakage.tests in PLANS else _tests_notice
    try:
        if not notices(breakage.tests, module):
            raise Failure(f"no test noticed a breakage: {breakage.what} ({breakage.file})")
    finally:
        path.write_text(whole)


def _tests_notice(tests: str, module: Path) -> bool:
    ended = attempt(
        "terraform", "test", "-no-color", f"-filter=tests/{tests}.tftest.hcl", place=module
    )
    # A syntax error would fail as well; only a test that failed counts.
    failed = ("Test assertion failed", "Missing expected failure")
    if ended.returncode and not any(words in ended.stdout for words in failed):
        raise Failure(f"broken otherwise than meant:\n{ended.stdout}")
    return bool(ended.returncode)


def _plans_notice(plans: str, module: Path) -> bool:
    run("terraform", "validate", "-no-color", place=module)  # here, too, a syntax error is no fault
    try:
        PLANS[plans](module)
    except Failure:
        return True
    return False
