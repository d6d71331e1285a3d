# What the module hands on.

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

run "outputs" {
  command = plan

  assert {
    # tests/test_terraform_access.py feeds this file to the plugin's own parser.
    condition     = output.scrapy_settings == file("tests/golden/scrapy_settings.txt")
    error_message = "The lines for settings.py."
  }
  assert {
    condition     = output.endpoint == "post-dedup-abc123.serverless.euc1.cache.amazonaws.com" && output.port == 6379
    error_message = "The endpoint for writes, not the reader's on 6380."
  }
  assert {
    condition     = output.cache_arn == aws_elasticache_serverless_cache.this.arn && output.cache_name == "post-dedup" && output.engine_version == "8.1"
    error_message = "The cache."
  }
  assert {
    condition     = output.key_arn == aws_kms_key.cache.arn && output.security_group_id == "sg-cache"
    error_message = "Key and security group."
  }
  assert {
    condition     = output.user_arn == aws_elasticache_user.spider.arn && output.user_name == "post-dedup-spider" && output.user_group_id == "post-dedup"
    error_message = "User and user group."
  }
  assert {
    condition     = output.iam_policy_arn == "arn:aws:iam::123456789012:policy/post-dedup-connect"
    error_message = "The policy for the spiders' role."
  }
  assert {
    condition     = keys(output.alarm_arns) == keys(aws_cloudwatch_metric_alarm.this) && output.dashboard_name == "post-dedup"
    error_message = "Alarms and dashboard."
  }
}
