# What to be told of: alarms, a dashboard, a budget.

locals {
  # Serverless caches have this dimension, and neither CacheClusterId nor ServerlessCacheName.
  dimensions = { clusterId = one(aws_elasticache_serverless_cache.this[*].name) }

  # AWS does not say whether its GB are 10^9 or 2^30 bytes: by the smaller the alarm comes early, never late.
  storage_maximum_bytes = var.storage_maximum_gb * 1000 * 1000 * 1000

  # The metric counts all ECPU of a period, the limit is a second's.
  minute                  = 60
  ecpu_maximum_per_minute = var.ecpu_maximum_per_second * local.minute

  at_limit = { comparison = "GreaterThanOrEqualToThreshold", evaluations = 1 }
  at_all   = { comparison = "GreaterThanThreshold", evaluations = 1, statistic = "Sum", period = 300, threshold = 0 }
  too_slow = {
    comparison  = "GreaterThanThreshold"
    evaluations = 3
    statistic   = "Average"
    period      = 300
    threshold   = var.alarm_latency_ms * 1000 # the metric is in microseconds
  }

  alarms = {
    storage = merge(local.at_limit, {
      metric      = "BytesUsedForCache"
      statistic   = "Maximum"
      period      = 300
      threshold   = local.storage_maximum_bytes * var.alarm_percent / 100
      description = "The ledger takes ${var.alarm_percent} % of its storage. When it is full, posts are forgotten: raise storage_maximum_gb, or shorten VALKEY_DEDUP_RETENTION."
    })
    ecpu = merge(local.at_limit, {
      metric      = "ElastiCacheProcessingUnits"
      statistic   = "Sum"
      period      = local.minute
      evaluations = 3
      threshold   = local.ecpu_maximum_per_minute * var.alarm_percent / 100
      description = "The fleet takes ${var.alarm_percent} % of its ECPU. Beyond the limit it is throttled: raise ecpu_maximum_per_second."
    })
    throttled = merge(local.at_all, {
      metric      = "ThrottledCmds"
      description = "Commands were throttled: spiders wait, and may store posts unchecked. Raise ecpu_maximum_per_second, or ecpu_minimum_per_second if fleets start all at once."
    })
    evictions = merge(local.at_all, {
      metric      = "Evictions"
      period      = local.minute
      description = "Posts were forgotten, and will be stored a second time. Raise storage_maximum_gb now."
    })
    read_latency = merge(local.too_slow, {
      metric      = "SuccessfulReadRequestLatency"
      description = "Reads take more than ${var.alarm_latency_ms} ms on average."
    })
    write_latency = merge(local.too_slow, {
      metric      = "SuccessfulWriteRequestLatency"
      description = "Writes take more than ${var.alarm_latency_ms} ms on average."
    })
    authentication = merge(local.at_all, {
      metric      = "AuthenticationFailures"
      description = "Somebody could not log in: a spider whose role lacks the policy, or a stranger."
    })
    authentication_throttled = merge(local.at_all, {
      metric      = "IamAuthenticationThrottling"
      description = "Logins were throttled: too many spiders connect at once."
    })
    commands_refused = merge(local.at_all, {
      metric      = "CommandAuthorizationFailures"
      description = "A command was refused: a plugin newer than this module's access string, or a stranger."
    })
    keys_refused = merge(local.at_all, {
      metric      = "KeyAuthorizationFailures"
      description = "A key was refused that does not belong to the ledger (vd1:)."
    })
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = { for name, alarm in local.alarms : name => alarm if var.create }

  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = each.value.description
  namespace           = "AWS/ElastiCache"
  metric_name         = each.value.metric
  dimensions          = local.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.evaluations
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  # No spider runs: nothing is measured, and nothing is wrong.
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topic_arn[*]
  ok_actions         = var.alarm_topic_arn[*]
  tags               = local.tags
}

# AWS publishes no latency of scripts, and does not say whether EVALSHA, most of what the plugin sends, counts as a
# read or as a write. It publishes what scripts take of the processor: in ECPU, of which one is about 3 microseconds.
resource "aws_cloudwatch_metric_alarm" "script_time" {
  count = var.create ? 1 : 0

  alarm_name          = "${var.name}-script-time"
  alarm_description   = "A script call takes the server more than ${var.alarm_script_ms} ms on average, as ECPU tell."
  evaluation_periods  = local.too_slow.evaluations
  comparison_operator = local.too_slow.comparison
  threshold           = var.alarm_script_ms * 1000
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags

  metric_query {
    id          = "microseconds"
    label       = "Microseconds a script call"
    expression  = "3 * ecpu / calls"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { ecpu = "EvalBasedCmdsECPUs", calls = "EvalBasedCmds" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ElastiCache"
        metric_name = metric_query.value
        dimensions  = local.dimensions
        stat        = "Sum"
        period      = local.too_slow.period
      }
    }
  }
}

locals {
  charts = [
    { title = "Bytes of posts", metrics = ["BytesUsedForCache"], stat = "Maximum", limit = local.storage_maximum_bytes },
    { title = "ECPU a minute", metrics = ["ElastiCacheProcessingUnits"], stat = "Sum", limit = local.ecpu_maximum_per_minute },
    { title = "Script calls a minute", metrics = ["EvalBasedCmds"], stat = "Sum", limit = null },
    { title = "ECPU of scripts a minute", metrics = ["EvalBasedCmdsECPUs"], stat = "Sum", limit = local.ecpu_maximum_per_minute },
    { title = "Latency, microseconds", metrics = ["SuccessfulReadRequestLatency", "SuccessfulWriteRequestLatency"], stat = "Average", limit = null },
    { title = "Must stay 0: forgotten and throttled", metrics = ["Evictions", "ThrottledCmds"], stat = "Sum", limit = null },
    { title = "Must stay 0: refused", metrics = ["AuthenticationFailures", "IamAuthenticationThrottling", "CommandAuthorizationFailures", "KeyAuthorizationFailures"], stat = "Sum", limit = null },
    { title = "Spiders connected", metrics = ["CurrConnections"], stat = "Maximum", limit = null },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.create ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for number, chart in local.charts : {
      type   = "metric"
      x      = 12 * (number % 2)
      y      = 6 * floor(number / 2)
      width  = 12
      height = 6
      properties = {
        title       = chart.title
        region      = local.region
        period      = local.minute
        stat        = chart.stat
        metrics     = [for metric in chart.metrics : concat(["AWS/ElastiCache", metric], flatten([for name, value in local.dimensions : [name, value]]))]
        yAxis       = { left = { min = 0 } }
        annotations = { horizontal = chart.limit == null ? [] : [{ label = "limit", value = chart.limit }] }
      }
    }]
  })
}

# Of all ElastiCache in the account: a filter by tag counts nothing until the tag is activated for billing, and a
# budget that counts nothing never warns.
resource "aws_budgets_budget" "this" {
  count = var.create && var.monthly_budget_usd != null ? 1 : 0

  name         = "${var.name}-elasticache"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = format("%.2f", var.monthly_budget_usd)
  limit_unit   = "USD"
  tags         = local.tags

  cost_filter {
    name   = "Service"
    values = ["Amazon ElastiCache"]
  }

  notification {
    notification_type          = "ACTUAL"
    comparison_operator        = "GREATER_THAN"
    threshold                  = 80
    threshold_type             = "PERCENTAGE"
    subscriber_email_addresses = var.budget_emails
  }

  notification {
    notification_type          = "FORECASTED"
    comparison_operator        = "GREATER_THAN"
    threshold                  = 100
    threshold_type             = "PERCENTAGE"
    subscriber_email_addresses = var.budget_emails
  }
}
