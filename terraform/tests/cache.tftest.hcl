# The cache: what the design says, and what each variable changes.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  check_subnets             = false
  spider_security_group_ids = { spiders = "sg-spiders" }
}

run "defaults_are_the_design" {
  command = plan

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].engine == "valkey"
    error_message = "The engine is Valkey."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].major_engine_version == "8"
    error_message = "The major version is 8."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].name == "post-dedup"
    error_message = "The name is post-dedup."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].description == "post dedup pipeline"
    error_message = "The description is the design's."
  }
  assert {
    condition     = one(one(aws_elasticache_serverless_cache.this[0].cache_usage_limits).data_storage).maximum == 10
    error_message = "10 units of storage at most."
  }
  assert {
    condition     = one(one(aws_elasticache_serverless_cache.this[0].cache_usage_limits).data_storage).unit == "GB"
    error_message = "The units of storage are GB."
  }
  assert {
    condition     = one(one(aws_elasticache_serverless_cache.this[0].cache_usage_limits).ecpu_per_second).maximum == 5000
    error_message = "5,000 ECPU a second at most."
  }
  assert {
    condition     = one(one(aws_elasticache_serverless_cache.this[0].cache_usage_limits).data_storage).minimum == null
    error_message = "No storage is paid for in advance."
  }
  assert {
    condition     = one(one(aws_elasticache_serverless_cache.this[0].cache_usage_limits).ecpu_per_second).minimum == null
    error_message = "No processing is paid for in advance."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].daily_snapshot_time == "09:00"
    error_message = "The snapshot is made at 09:00."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].snapshot_retention_limit == 3
    error_message = "Snapshots are kept for three days."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].snapshot_arns_to_restore == null
    error_message = "A cache begins empty."
  }
}

run "the_cache_is_joined_to_its_parts" {
  command = plan

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].kms_key_id == aws_kms_key.cache[0].arn
    error_message = "The customer-managed key encrypts it."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].user_group_id == aws_elasticache_user_group.spiders[0].user_group_id
    error_message = "Without the user group anybody in the VPC may connect."
  }
  assert {
    condition     = toset(aws_elasticache_serverless_cache.this[0].security_group_ids) == toset([aws_security_group.cache[0].id])
    error_message = "Its security group is the module's own, and no other."
  }
  assert {
    condition     = toset(aws_elasticache_serverless_cache.this[0].subnet_ids) == toset(["subnet-1", "subnet-2"])
    error_message = "It lies in the given subnets."
  }
}

run "every_value_reaches_the_cache" {
  command = plan

  variables {
    name                       = "news"
    description                = "posts of news sites"
    major_engine_version       = "9"
    storage_minimum_gb         = 2
    storage_maximum_gb         = 20
    ecpu_minimum_per_second    = 1000
    ecpu_maximum_per_second    = 30000
    snapshot_time              = "23:30"
    snapshot_retention_days    = 35
    restore_from_snapshot_arns = ["arn:aws:elasticache:eu-central-1:123456789012:serverlesscachesnapshot:before"]
    key_deletion_days          = 7
    tags                       = { team = "spiders" }
  }

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].name == "news" && aws_elasticache_serverless_cache.this[0].description == "posts of news sites"
    error_message = "Name and description."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].major_engine_version == "9"
    error_message = "Major version."
  }
  assert {
    condition = one(aws_elasticache_serverless_cache.this[0].cache_usage_limits) == {
      data_storage    = tolist([{ minimum = 2, maximum = 20, unit = "GB" }])
      ecpu_per_second = tolist([{ minimum = 1000, maximum = 30000 }])
    }
    error_message = "Limits and minimums."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].daily_snapshot_time == "23:30" && aws_elasticache_serverless_cache.this[0].snapshot_retention_limit == 35
    error_message = "Snapshots."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].snapshot_arns_to_restore == tolist(["arn:aws:elasticache:eu-central-1:123456789012:serverlesscachesnapshot:before"])
    error_message = "The snapshot that is restored."
  }
  assert {
    condition     = aws_kms_key.cache[0].deletion_window_in_days == 7
    error_message = "Days until the key is deleted."
  }
  assert {
    condition = alltrue([
      for tags in [
        aws_elasticache_serverless_cache.this[0].tags, aws_kms_key.cache[0].tags, aws_security_group.cache[0].tags,
        aws_elasticache_user.spider["spider"].tags, aws_elasticache_user_group.spiders[0].tags, aws_iam_policy.connect["spider"].tags,
        aws_vpc_security_group_ingress_rule.spiders["spiders"].tags, aws_cloudwatch_metric_alarm.this["storage"].tags,
      ] : tags == tomap({ Name = "news", team = "spiders" })
    ])
    error_message = "Everything is tagged."
  }
}
