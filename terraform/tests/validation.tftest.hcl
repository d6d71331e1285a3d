# Each validation refuses a bad value. A run takes a second, so each tries all variables at once, with one bad
# value each: expect_failures wants every one of those it lists to fail.

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

run "too_little" {
  command = plan

  variables {
    name                       = ""
    vpc_id                     = ""
    subnet_ids                 = ["subnet-1"]
    spider_security_group_ids  = {}
    spider_role_names          = [""]
    major_engine_version       = ""
    storage_maximum_gb         = 0
    ecpu_maximum_per_second    = 999
    snapshot_time              = "9"
    snapshot_retention_days    = 0
    restore_from_snapshot_arns = [""]
    key_administrator_arns     = [""]
    key_deletion_days          = 6
    alarm_topic_arn            = ""
    alarm_percent              = 0
    alarm_latency_ms           = 0
    monthly_budget_usd         = 0
    budget_emails              = ["ops@example.com"]
    timeouts                   = { create = "" }
    alarm_script_ms            = 0
    password_user_ids          = [""]
    create_key                 = false
    kms_key_arn                = ""
  }

  expect_failures = [
    var.timeouts,
    var.alarm_script_ms,
    var.password_user_ids,
    var.kms_key_arn,
    var.name,
    var.vpc_id,
    var.subnet_ids,
    var.spider_security_group_ids,
    var.spider_role_names,
    var.major_engine_version,
    var.storage_maximum_gb,
    var.ecpu_maximum_per_second,
    var.snapshot_time,
    var.snapshot_retention_days,
    var.restore_from_snapshot_arns,
    var.key_administrator_arns,
    var.key_deletion_days,
    var.alarm_topic_arn,
    var.alarm_percent,
    var.alarm_latency_ms,
    var.monthly_budget_usd,
  ]
}

run "too_much" {
  command = plan

  variables {
    budget_emails           = ["ops"]
    name                    = "a123456789-123456789-123456789-1234"
    description             = join("", [for number in range(256) : "x"])
    subnet_ids              = ["subnet-1", "subnet-2", "subnet-3", "subnet-4"]
    storage_maximum_gb      = 5001
    ecpu_maximum_per_second = 15000001
    snapshot_time           = "24:00"
    snapshot_retention_days = 36
    key_deletion_days       = 31
    alarm_percent           = 100
    alarm_latency_ms        = 2001
    alarm_script_ms         = 2001
    spider_cidrs            = { world = "0.0.0.0/0" }
    password_user_ids       = ["default"]
    kms_key_arn             = "arn:aws:kms:eu-central-1:123456789012:key/yours"
    major_engine_version    = "10"
  }

  expect_failures = [
    var.budget_emails,
    var.name,
    var.description,
    var.subnet_ids,
    var.storage_maximum_gb,
    var.ecpu_maximum_per_second,
    var.snapshot_time,
    var.snapshot_retention_days,
    var.key_deletion_days,
    var.alarm_percent,
    var.alarm_latency_ms,
    var.alarm_script_ms,
    var.spider_cidrs,
    var.password_user_ids,
    var.kms_key_arn,
    var.major_engine_version,
  ]
}

# A minor version, ARNs and names in each other's place, markup, fractions, a world that is let in.
run "of_the_wrong_kind" {
  command = plan

  variables {
    name                       = "Post-Dedup"
    description                = "<posts>"
    vpc_id                     = "subnet-1"
    subnet_ids                 = ["subnet-1", "vpc-1"]
    spider_security_group_ids  = { world = "0.0.0.0/0" }
    spider_role_names          = ["arn:aws:iam::123456789012:role/spiders"]
    major_engine_version       = "8.1"
    storage_maximum_gb         = 1.5
    ecpu_maximum_per_second    = 1000.5
    snapshot_time              = "9:00"
    snapshot_retention_days    = 1.5
    restore_from_snapshot_arns = ["before"]
    key_administrator_arns     = ["*"]
    alarm_topic_arn            = "on-call"
    password_user_ids          = ["arn:aws:elasticache:eu-central-1:123456789012:user:outside"]
    timeouts                   = { create = "40" }
    create_key                 = false
    kms_key_arn                = "arn:aws:kms:eu-central-1:123456789012:alias/yours"
  }

  expect_failures = [
    var.name,
    var.description,
    var.vpc_id,
    var.subnet_ids,
    var.spider_security_group_ids,
    var.spider_role_names,
    var.major_engine_version,
    var.storage_maximum_gb,
    var.ecpu_maximum_per_second,
    var.snapshot_time,
    var.snapshot_retention_days,
    var.restore_from_snapshot_arns,
    var.key_administrator_arns,
    var.alarm_topic_arn,
    var.password_user_ids,
    var.timeouts,
    var.kms_key_arn,
  ]
}

# And a budget that nobody hears of, every role as administrator, a name that IAM or ElastiCache refuses.
run "minimums_above_the_maximum" {
  command = plan

  variables {
    name                    = "post--dedup"
    storage_minimum_gb      = 11
    ecpu_minimum_per_second = 5001
    key_administrator_arns  = ["arn:aws:iam::123456789012:role/*"]
    monthly_budget_usd      = 50
  }

  expect_failures = [
    var.name,
    var.storage_minimum_gb,
    var.ecpu_minimum_per_second,
    var.key_administrator_arns,
    var.monthly_budget_usd,
  ]
}

run "minimums_too_small" {
  command = plan

  variables {
    name                    = "1-dedup"
    storage_minimum_gb      = 0
    ecpu_minimum_per_second = 999
  }

  expect_failures = [
    var.name,
    var.storage_minimum_gb,
    var.ecpu_minimum_per_second,
  ]
}

run "minimums_in_fractions" {
  command = plan

  variables {
    name                    = "dedup-"
    storage_minimum_gb      = 1.5
    ecpu_minimum_per_second = 1000.5
  }

  expect_failures = [
    var.name,
    var.storage_minimum_gb,
    var.ecpu_minimum_per_second,
  ]
}

# What is checked together with another variable, which must be right for that.

run "roles_without_a_user_and_a_network_within_no_network" {
  command = plan

  variables {
    spider_role_names = ["spiders"]
    namespaces        = { posts = {} }
    spider_cidrs      = { office = "10.8.0.1/24" }
  }

  expect_failures = [var.namespaces, var.spider_cidrs]
}

run "a_user_name_that_is_too_long_and_networks_too_wide" {
  command = plan

  variables {
    name         = "a123456789-123456789-1234"
    namespaces   = { posts-of-news-1 = {} }
    spider_cidrs = { half = "0.0.0.0/1" }
  }

  expect_failures = [var.namespaces, var.spider_cidrs]
}

run "a_namespace_that_stands_in_the_keys_as_a_digest_and_ipv6" {
  command = plan

  variables {
    namespaces   = { posts = { namespace = "posts of news" } }
    spider_cidrs = { six = "fd00::/64" }
  }

  expect_failures = [var.namespaces, var.spider_cidrs]
}

run "a_role_by_its_arn" {
  command = plan

  variables {
    namespaces = { posts = { role_names = ["arn:aws:iam::123456789012:role/spiders"] } }
  }

  expect_failures = [var.namespaces]
}

run "neither_vpc_nor_subnets" {
  command = plan

  variables {
    vpc_id     = null
    subnet_ids = null
  }

  expect_failures = [var.vpc_id, var.subnet_ids]
}
