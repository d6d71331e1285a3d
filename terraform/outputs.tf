output "scrapy_settings" {
  description = <<-EOT
    The lines to paste into settings.py; then name VALKEY_DEDUP_FIELDS. They hold no secret. One block for each
    namespace, if users are made for namespaces.
  EOT
  value = join("\n", [
    for name, user in aws_elasticache_user.spider : templatefile("${path.module}/settings.py.tftpl", {
      namespace = local.users[name].namespace
      address   = local.endpoint.address
      port      = local.endpoint.port
      user      = user.user_name
      cache     = aws_elasticache_serverless_cache.this[0].name
      region    = local.region
    })
  ])
}

locals {
  # One of reader_endpoint's port would be 6380.
  endpoint = one(flatten(aws_elasticache_serverless_cache.this[*].endpoint))
}

output "endpoint" {
  description = "Host name of the cache. It speaks TLS only."
  value       = try(local.endpoint.address, null)
}

output "port" {
  description = "Port of the cache, for writes and for reads that are up to date."
  value       = try(local.endpoint.port, null)
}

output "cache_name" {
  description = "Name of the cache, for which IAM tokens are signed."
  value       = one(aws_elasticache_serverless_cache.this[*].name)
}

output "cache_arn" {
  description = "ARN of the cache."
  value       = one(aws_elasticache_serverless_cache.this[*].arn)
}

output "engine_version" {
  description = "The version of Valkey that AWS runs now."
  value       = one(aws_elasticache_serverless_cache.this[*].full_engine_version)
}

output "key_arn" {
  description = "ARN of the KMS key of cache and snapshots; null if it is AWS's."
  value       = var.create ? local.key_arn : null
}

output "security_group_id" {
  description = "The cache's security group, for egress rules of the spiders' groups."
  value       = one(aws_security_group.cache[*].id)
}

output "users" {
  description = <<-EOT
    The users that spiders connect as, by the names in namespaces (without namespaces: "spider"). Of each its name and
    ARN, and the policy that lets a role connect as it: its ARN, and its JSON for roles that are made elsewhere.
  EOT
  value = {
    for name, user in aws_elasticache_user.spider : name => {
      name           = user.user_name
      arn            = user.arn
      namespace      = local.users[name].namespace
      iam_policy_arn = aws_iam_policy.connect[name].arn
      iam_policy     = local.connect_policies[name]
    }
  }
}

output "access_strings" {
  description = "What each of the users may do, as Valkey's ACL says it; for users with passwords, too."
  value       = { for name, user in local.users : name => user.access_string }
}

output "user_group_id" {
  description = "The user group of the cache."
  value       = one(aws_elasticache_user_group.spiders[*].user_group_id)
}

output "alarm_arns" {
  description = "ARNs of the alarms, by what they watch."
  value = merge(
    { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.arn },
    { for alarm in aws_cloudwatch_metric_alarm.script_time : "script_time" => alarm.arn },
  )
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = one(aws_cloudwatch_dashboard.this[*].dashboard_name)
}
