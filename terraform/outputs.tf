output "scrapy_settings" {
  description = "The lines to paste into settings.py; then name VALKEY_DEDUP_FIELDS. They hold no secret."
  value       = <<-EOT
    ADDONS = {"scrapy_valkey_dedup.Addon": 500}
    VALKEY_DEDUP_URL = "valkeys://${local.endpoint.address}:${local.endpoint.port}"
    VALKEY_DEDUP_CREDENTIALS = {
        "provider": "scrapy_valkey_dedup.aws.ElastiCacheIAM",
        "user": "${aws_elasticache_user.spider.user_name}",
        "cache": "${aws_elasticache_serverless_cache.this.name}",
        "region": "${local.region}",
        "serverless": True,
    }
  EOT
}

locals {
  # One of reader_endpoint's port would be 6380.
  endpoint = one(aws_elasticache_serverless_cache.this.endpoint)
}

output "endpoint" {
  description = "Host name of the cache. It speaks TLS only."
  value       = local.endpoint.address
}

output "port" {
  description = "Port of the cache, for writes and for reads that are up to date."
  value       = local.endpoint.port
}

output "cache_name" {
  description = "Name of the cache, for which IAM tokens are signed."
  value       = aws_elasticache_serverless_cache.this.name
}

output "cache_arn" {
  description = "ARN of the cache."
  value       = aws_elasticache_serverless_cache.this.arn
}

output "engine_version" {
  description = "The version of Valkey that AWS runs now."
  value       = aws_elasticache_serverless_cache.this.full_engine_version
}

output "key_arn" {
  description = "ARN of the KMS key of cache and snapshots."
  value       = aws_kms_key.cache.arn
}

output "security_group_id" {
  description = "The cache's security group, for egress rules of the spiders' groups."
  value       = aws_security_group.cache.id
}

output "user_name" {
  description = "The user that spiders connect as."
  value       = aws_elasticache_user.spider.user_name
}

output "user_arn" {
  description = "ARN of the user that spiders connect as."
  value       = aws_elasticache_user.spider.arn
}

output "user_group_id" {
  description = "The user group of the cache."
  value       = aws_elasticache_user_group.spiders.user_group_id
}

output "access_string" {
  description = "What the user may do, as Valkey's ACL says it."
  value       = aws_elasticache_user.spider.access_string
}

output "iam_policy_arn" {
  description = "ARN of the policy that lets a role connect as the user."
  value       = aws_iam_policy.connect.arn
}

output "iam_policy" {
  description = "The same policy as JSON, for roles that are made elsewhere."
  value       = local.connect_policy
}

output "alarm_arns" {
  description = "ARNs of the alarms, by what they watch."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.arn }
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
