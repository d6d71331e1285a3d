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
    # tests/house/test_terraform_access.py feeds this file to the plugin's own parser.
    condition     = output.scrapy_settings == file("tests/golden/scrapy_settings.txt")
    error_message = "The lines for settings.py."
  }
  assert {
    condition     = output.endpoint == "post-dedup-abc123.serverless.euc1.cache.amazonaws.com" && output.port == 6379
    error_message = "The endpoint for writes, not the reader's on 6380."
  }
  assert {
    condition     = output.cache_arn == aws_elasticache_serverless_cache.this[0].arn && output.cache_name == "post-dedup" && output.engine_version == "8.1"
    error_message = "The cache."
  }
  assert {
    condition     = output.key_arn == aws_kms_key.cache[0].arn && output.security_group_id == "sg-cache"
    error_message = "Key and security group."
  }
  assert {
    condition     = output.users["spider"].arn == aws_elasticache_user.spider["spider"].arn && output.users["spider"].name == "post-dedup-spider" && output.user_group_id == "post-dedup"
    error_message = "User and user group."
  }
  assert {
    condition     = output.users["spider"].iam_policy_arn == "arn:aws:iam::123456789012:policy/post-dedup-connect"
    error_message = "The policy for the spiders' role."
  }
  assert {
    condition     = toset(keys(output.alarm_arns)) == toset(concat(keys(aws_cloudwatch_metric_alarm.this), ["script_time"])) && output.dashboard_name == "post-dedup"
    error_message = "Alarms and dashboard."
  }
}

run "nothing_is_made_if_not_wanted" {
  command = plan

  variables {
    create                    = false
    vpc_id                    = null
    subnet_ids                = null
    check_subnets             = true
    spider_security_group_ids = {}
    monthly_budget_usd        = 50
    budget_emails             = ["ops@example.com"]
    namespaces                = { posts = { role_names = ["spiders"] } }
  }

  assert {
    condition = 0 == length(concat(
      aws_elasticache_serverless_cache.this[*], aws_kms_key.cache[*], aws_kms_alias.cache[*], aws_security_group.cache[*],
      aws_elasticache_user_group.spiders[*], aws_cloudwatch_metric_alarm.script_time[*], aws_cloudwatch_dashboard.this[*],
      aws_budgets_budget.this[*], data.aws_subnet.given[*], data.aws_route_table.given[*],
      values(aws_elasticache_user.spider), values(aws_iam_policy.connect), values(aws_iam_role_policy_attachment.connect),
      values(aws_cloudwatch_metric_alarm.this), values(aws_vpc_security_group_ingress_rule.spiders), values(aws_vpc_security_group_ingress_rule.networks),
    ))
    error_message = "create = false makes nothing, and asks AWS nothing."
  }
  assert {
    condition     = output.endpoint == null && output.key_arn == null && output.scrapy_settings == "" && output.users == {}
    error_message = "The outputs are empty."
  }
}

run "terraform_waits_as_long_as_it_is_told" {
  command = plan

  variables {
    timeouts = { create = "1h30m", delete = "5m" }
  }

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].timeouts.create == "1h30m" && aws_elasticache_serverless_cache.this[0].timeouts.update == null && aws_elasticache_serverless_cache.this[0].timeouts.delete == "5m"
    error_message = "The timeouts are the cache's."
  }
}
