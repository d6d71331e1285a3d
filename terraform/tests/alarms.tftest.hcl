# Each alarm watches the right metric at the right threshold, and tells somebody.

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

run "what_is_watched" {
  command = plan

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => [alarm.metric_name, alarm.statistic, alarm.comparison_operator, tostring(alarm.threshold), tostring(alarm.period), tostring(alarm.evaluation_periods)] } == {
      # 75 % of 10 GB.
      storage = ["BytesUsedForCache", "Maximum", "GreaterThanOrEqualToThreshold", "7500000000", "300", "1"]
      # 75 % of 5,000 a second, in a minute.
      ecpu      = ["ElastiCacheProcessingUnits", "Sum", "GreaterThanOrEqualToThreshold", "225000", "60", "3"]
      throttled = ["ThrottledCmds", "Sum", "GreaterThanThreshold", "0", "300", "1"]
      evictions = ["Evictions", "Sum", "GreaterThanThreshold", "0", "60", "1"]
      # 10 ms in microseconds.
      read_latency             = ["SuccessfulReadRequestLatency", "Average", "GreaterThanThreshold", "10000", "300", "3"]
      write_latency            = ["SuccessfulWriteRequestLatency", "Average", "GreaterThanThreshold", "10000", "300", "3"]
      authentication           = ["AuthenticationFailures", "Sum", "GreaterThanThreshold", "0", "300", "1"]
      authentication_throttled = ["IamAuthenticationThrottling", "Sum", "GreaterThanThreshold", "0", "300", "1"]
      commands_refused         = ["CommandAuthorizationFailures", "Sum", "GreaterThanThreshold", "0", "300", "1"]
      keys_refused             = ["KeyAuthorizationFailures", "Sum", "GreaterThanThreshold", "0", "300", "1"]
    }
    error_message = "Metric, statistic, comparison, threshold, period and number of periods of each alarm."
  }
  assert {
    # A serverless cache publishes under no other dimension: an alarm on CacheClusterId sleeps forever.
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.namespace == "AWS/ElastiCache" && alarm.dimensions == tomap({ clusterId = "post-dedup" })])
    error_message = "The metrics are those of this cache."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.treat_missing_data == "notBreaching"])
    error_message = "While no spider runs, nothing is measured and nothing is wrong."
  }
  assert {
    condition     = length(distinct([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])) == 10
    error_message = "Every alarm has a name of its own."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 0])
    error_message = "Without a topic nobody is told."
  }
  assert {
    condition = { for query in aws_cloudwatch_metric_alarm.script_time[0].metric_query : query.id => try([one(query.metric).namespace, one(query.metric).metric_name, one(query.metric).stat, tostring(one(query.metric).period), one(query.metric).dimensions["clusterId"]], [query.expression, tostring(query.return_data)]) } == {
      # 1 ECPU is about 3 microseconds of a script.
      microseconds = ["3 * ecpu / calls", "true"]
      ecpu         = ["AWS/ElastiCache", "EvalBasedCmdsECPUs", "Sum", "300", "post-dedup"]
      calls        = ["AWS/ElastiCache", "EvalBasedCmds", "Sum", "300", "post-dedup"]
    }
    error_message = "What the plugin sends are scripts: their time is reckoned from their ECPU."
  }
  assert {
    # 2 ms in microseconds.
    condition     = aws_cloudwatch_metric_alarm.script_time[0].threshold == 2000 && aws_cloudwatch_metric_alarm.script_time[0].comparison_operator == "GreaterThanThreshold" && aws_cloudwatch_metric_alarm.script_time[0].evaluation_periods == 3 && aws_cloudwatch_metric_alarm.script_time[0].treat_missing_data == "notBreaching"
    error_message = "Scripts of more than 2 ms for a quarter of an hour."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.script_time[0].alarm_actions) == 0
    error_message = "Without a topic nobody is told."
  }
  assert {
    condition     = length(aws_budgets_budget.this) == 0
    error_message = "A budget is for those who ask for one."
  }
}

run "the_thresholds_follow_the_limits" {
  command = plan

  variables {
    storage_maximum_gb      = 100
    ecpu_maximum_per_second = 20000
    alarm_percent           = 50
    alarm_latency_ms        = 25
    alarm_script_ms         = 0.5
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["storage"].threshold == 50 * 1000 * 1000 * 1000
    error_message = "Half of 100 GB."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["ecpu"].threshold == 600000
    error_message = "Half of 20,000 a second, in a minute."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["read_latency"].threshold == 25000 && aws_cloudwatch_metric_alarm.this["write_latency"].threshold == 25000
    error_message = "25 ms in microseconds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.script_time[0].threshold == 500
    error_message = "Half a millisecond in microseconds."
  }
}

run "somebody_is_told" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws:sns:eu-central-1:123456789012:on-call"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:on-call"])])
    error_message = "Every alarm goes to the topic."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.ok_actions == toset(["arn:aws:sns:eu-central-1:123456789012:on-call"])])
    error_message = "The end of every alarm, too."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.script_time[0].alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:on-call"]) && aws_cloudwatch_metric_alarm.script_time[0].ok_actions == toset(["arn:aws:sns:eu-central-1:123456789012:on-call"])
    error_message = "The alarm on scripts, too."
  }
}

run "the_dashboard_shows_what_is_watched" {
  command = plan

  assert {
    condition = length(setsubtract(
      [for alarm in aws_cloudwatch_metric_alarm.this : alarm.metric_name],
      flatten([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : [for metric in widget.properties.metrics : metric[1]]]),
    )) == 0
    error_message = "Every metric with an alarm has a chart."
  }
  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : [
        for metric in widget.properties.metrics : metric[0] == "AWS/ElastiCache" && metric[2] == "clusterId" && metric[3] == "post-dedup"
      ]
    ]))
    error_message = "The charts are those of this cache."
  }
  assert {
    condition = { for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : join(" ", [for metric in widget.properties.metrics : metric[1]]) => widget.properties.stat } == {
      "BytesUsedForCache"                                                                                        = "Maximum"
      "ElastiCacheProcessingUnits"                                                                               = "Sum"
      "EvalBasedCmds"                                                                                            = "Sum"
      "EvalBasedCmdsECPUs"                                                                                       = "Sum"
      "SuccessfulReadRequestLatency SuccessfulWriteRequestLatency"                                               = "Average"
      "Evictions ThrottledCmds"                                                                                  = "Sum"
      "AuthenticationFailures IamAuthenticationThrottling CommandAuthorizationFailures KeyAuthorizationFailures" = "Sum"
      "CurrConnections"                                                                                          = "Maximum"
    }
    error_message = "Every chart adds up what is counted, and shows the height of what is measured."
  }
  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.properties.period == 60])
    error_message = "By the minute, as the limits are drawn."
  }
  assert {
    condition = { for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.properties.metrics[0][1] => widget.properties.annotations.horizontal[0].value if length(widget.properties.annotations.horizontal) > 0 } == {
      BytesUsedForCache          = 10000000000
      ElastiCacheProcessingUnits = 300000
      EvalBasedCmdsECPUs         = 300000
    }
    error_message = "The limits are drawn."
  }
  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.properties.region == "eu-central-1"])
    error_message = "The charts are those of the region."
  }
}

run "a_budget" {
  command = plan

  variables {
    monthly_budget_usd = 50
    budget_emails      = ["ops@example.com"]
  }

  assert {
    condition     = aws_budgets_budget.this[0].limit_amount == "50.00" && aws_budgets_budget.this[0].limit_unit == "USD" && aws_budgets_budget.this[0].time_unit == "MONTHLY"
    error_message = "50 dollars a month."
  }
  assert {
    condition     = one(aws_budgets_budget.this[0].cost_filter).name == "Service" && one(aws_budgets_budget.this[0].cost_filter).values == tolist(["Amazon ElastiCache"])
    error_message = "Of ElastiCache."
  }
  assert {
    condition = { for notification in aws_budgets_budget.this[0].notification : notification.notification_type => [notification.threshold, notification.threshold_type, notification.comparison_operator] } == {
      ACTUAL     = [80, "PERCENTAGE", "GREATER_THAN"]
      FORECASTED = [100, "PERCENTAGE", "GREATER_THAN"]
    }
    error_message = "It warns at 80 % spent, and at a forecast of more than all."
  }
  assert {
    condition     = alltrue([for notification in aws_budgets_budget.this[0].notification : notification.subscriber_email_addresses == toset(["ops@example.com"])])
    error_message = "Somebody hears of it."
  }
}
