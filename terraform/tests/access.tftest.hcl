# Who reaches the cache, as whom, and what they may do there.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  check_subnets             = false
  spider_security_group_ids = { spiders = "sg-spiders", night_shift = "sg-night" }
  spider_role_names         = ["spiders", "night-shift"]
}

run "only_the_spiders_reach_the_cache" {
  command = plan

  assert {
    condition     = { for name, rule in aws_vpc_security_group_ingress_rule.spiders : name => rule.referenced_security_group_id } == { spiders = "sg-spiders", night_shift = "sg-night" }
    error_message = "The given groups are let in, and no other."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.spiders : rule.from_port == 6379 && rule.to_port == 6379 && rule.ip_protocol == "tcp"])
    error_message = "Only 6379 is open: 6380 reads from replicas, which lag behind."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.spiders : rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.prefix_list_id == null])
    error_message = "No address is let in, only groups."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.spiders : rule.security_group_id == aws_security_group.cache.id])
    error_message = "The rules are those of the cache's group."
  }
  assert {
    condition     = aws_security_group.cache.vpc_id == "vpc-1"
    error_message = "The group is the VPC's."
  }
  assert {
    # Of rules that this file does not know, too.
    condition     = length(aws_vpc_security_group_ingress_rule.spiders) == 2 && alltrue([for file in fileset(".", "*.tf") : !can(regex("cidr|0\\.0\\.0\\.0|::/0|prefix_list", file(file)))])
    error_message = "No file of the module opens anything to addresses."
  }
}

run "the_user_logs_in_by_iam_and_may_do_the_least" {
  command = plan

  assert {
    condition     = one(aws_elasticache_user.spider.authentication_mode).type == "iam"
    error_message = "IAM authenticates: there is no password to steal."
  }
  assert {
    condition     = aws_elasticache_user.spider.user_id == "post-dedup-spider" && aws_elasticache_user.spider.user_name == "post-dedup-spider"
    error_message = "IAM wants one and the same id and name."
  }
  assert {
    condition     = aws_elasticache_user.spider.engine == "valkey" && aws_elasticache_user_group.spiders.engine == "valkey"
    error_message = "User and group are Valkey's."
  }
  assert {
    # tests/test_terraform_access.py compares this file with docs/security.md, and crawls under it.
    condition     = aws_elasticache_user.spider.access_string == trimspace(file("tests/golden/access_string.txt"))
    error_message = "The access string is the least-privilege line."
  }
  assert {
    condition     = output.access_string == aws_elasticache_user.spider.access_string
    error_message = "The output is what the user has."
  }
  assert {
    condition     = aws_elasticache_user_group.spiders.user_ids == toset([aws_elasticache_user.spider.user_id])
    error_message = "The group holds this user, and no other."
  }
}

run "the_policy_lets_connect_as_this_user_to_this_cache" {
  command = plan

  assert {
    condition     = length(jsondecode(aws_iam_policy.connect.policy).Statement) == 1
    error_message = "The policy says one thing."
  }
  assert {
    condition     = jsondecode(aws_iam_policy.connect.policy).Statement[0].Effect == "Allow" && jsondecode(aws_iam_policy.connect.policy).Statement[0].Action == ["elasticache:Connect"]
    error_message = "Connecting, and nothing else."
  }
  assert {
    condition = toset(jsondecode(aws_iam_policy.connect.policy).Statement[0].Resource) == toset([
      "arn:aws:elasticache:eu-central-1:123456789012:serverlesscache:post-dedup",
      "arn:aws:elasticache:eu-central-1:123456789012:user:post-dedup-spider",
    ])
    error_message = "IAM wants the cache and the user."
  }
  assert {
    condition     = !strcontains(aws_iam_policy.connect.policy, "*")
    error_message = "No wildcard."
  }
  assert {
    condition     = output.iam_policy == aws_iam_policy.connect.policy
    error_message = "The output is the policy."
  }
  assert {
    condition     = { for role, attached in aws_iam_role_policy_attachment.connect : role => attached.policy_arn } == { spiders = aws_iam_policy.connect.arn, night-shift = aws_iam_policy.connect.arn }
    error_message = "Each given role gets it."
  }
}

run "names_follow_the_name" {
  command = plan

  variables {
    name = "news"
  }

  assert {
    condition     = aws_elasticache_user.spider.user_id == "news-spider" && aws_elasticache_user_group.spiders.user_group_id == "news"
    error_message = "Two caches of one account get in nobody's way."
  }
  assert {
    condition     = aws_security_group.cache.name == "news-cache" && aws_iam_policy.connect.name == "news-connect" && aws_kms_alias.cache.name == "alias/news"
    error_message = "Two caches of one account get in nobody's way."
  }
}
