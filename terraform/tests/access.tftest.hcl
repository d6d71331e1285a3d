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
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.spiders : rule.security_group_id == aws_security_group.cache[0].id])
    error_message = "The rules are those of the cache's group."
  }
  assert {
    condition     = aws_security_group.cache[0].vpc_id == "vpc-1"
    error_message = "The group is the VPC's."
  }
  assert {
    # Of rules that this file does not know, too.
    condition     = length(aws_vpc_security_group_ingress_rule.spiders) == 2 && length(aws_vpc_security_group_ingress_rule.networks) == 0 && alltrue([for file in fileset(".", "*.tf") : !can(regex("0\\.0\\.0\\.0|::/0|prefix_list|cidr_blocks|cidr_ipv6", file(file)))])
    error_message = "No file of the module opens anything to the world."
  }
}

run "networks_of_spiders_are_let_in_too" {
  command = plan

  variables {
    spider_security_group_ids = {}
    spider_cidrs              = { office = "10.8.0.0/24", peer = "172.16.0.0/12" }
  }

  assert {
    condition     = { for name, rule in aws_vpc_security_group_ingress_rule.networks : name => rule.cidr_ipv4 } == { office = "10.8.0.0/24", peer = "172.16.0.0/12" }
    error_message = "The given networks are let in, and no other."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.networks : rule.from_port == 6379 && rule.to_port == 6379 && rule.ip_protocol == "tcp" && rule.security_group_id == aws_security_group.cache[0].id])
    error_message = "Only 6379, and by the cache's group."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.spiders) == 0
    error_message = "A network is enough: no group need be named."
  }
}

run "the_user_logs_in_by_iam_and_may_do_the_least" {
  command = plan

  assert {
    condition     = one(aws_elasticache_user.spider["spider"].authentication_mode).type == "iam"
    error_message = "IAM authenticates: there is no password to steal."
  }
  assert {
    condition     = aws_elasticache_user.spider["spider"].user_id == "post-dedup-spider" && aws_elasticache_user.spider["spider"].user_name == "post-dedup-spider"
    error_message = "IAM wants one and the same id and name."
  }
  assert {
    condition     = aws_elasticache_user.spider["spider"].engine == "valkey" && aws_elasticache_user_group.spiders[0].engine == "valkey"
    error_message = "User and group are Valkey's."
  }
  assert {
    # tests/house/test_terraform_access.py compares this file with docs/security.md, and crawls under it.
    condition     = aws_elasticache_user.spider["spider"].access_string == trimspace(file("tests/golden/access_string.txt"))
    error_message = "The access string is the least-privilege line."
  }
  assert {
    condition     = output.access_strings == { spider = aws_elasticache_user.spider["spider"].access_string }
    error_message = "The output is what the user may do."
  }
  assert {
    condition     = aws_elasticache_user_group.spiders[0].user_ids == toset([aws_elasticache_user.spider["spider"].user_id])
    error_message = "The group holds this user, and no other."
  }
}

run "the_policy_lets_connect_as_this_user_to_this_cache" {
  command = plan

  assert {
    condition     = length(jsondecode(aws_iam_policy.connect["spider"].policy).Statement) == 1
    error_message = "The policy says one thing."
  }
  assert {
    condition     = jsondecode(aws_iam_policy.connect["spider"].policy).Statement[0].Effect == "Allow" && jsondecode(aws_iam_policy.connect["spider"].policy).Statement[0].Action == ["elasticache:Connect"]
    error_message = "Connecting, and nothing else."
  }
  assert {
    condition = toset(jsondecode(aws_iam_policy.connect["spider"].policy).Statement[0].Resource) == toset([
      "arn:aws:elasticache:eu-central-1:123456789012:serverlesscache:post-dedup",
      "arn:aws:elasticache:eu-central-1:123456789012:user:post-dedup-spider",
    ])
    error_message = "IAM wants the cache and the user."
  }
  assert {
    condition     = !strcontains(aws_iam_policy.connect["spider"].policy, "*")
    error_message = "No wildcard."
  }
  assert {
    condition     = output.users["spider"].iam_policy == aws_iam_policy.connect["spider"].policy
    error_message = "The output is the policy."
  }
  assert {
    condition     = { for attached in aws_iam_role_policy_attachment.connect : attached.role => attached.policy_arn } == { spiders = aws_iam_policy.connect["spider"].arn, night-shift = aws_iam_policy.connect["spider"].arn }
    error_message = "Each given role gets it."
  }
}

run "names_follow_the_name" {
  command = plan

  variables {
    name = "news"
  }

  assert {
    condition     = aws_elasticache_user.spider["spider"].user_id == "news-spider" && aws_elasticache_user_group.spiders[0].user_group_id == "news"
    error_message = "Two caches of one account get in nobody's way."
  }
  assert {
    condition     = aws_security_group.cache[0].name == "news-cache" && aws_iam_policy.connect["spider"].name == "news-spider-connect" && aws_kms_alias.cache[0].name == "alias/news"
    error_message = "Two caches of one account get in nobody's way."
  }
}

run "a_user_for_each_namespace" {
  command = plan

  variables {
    spider_role_names = []
    namespaces = {
      posts = { role_names = ["spiders", "night-shift"] }
      eu    = { namespace = "Reviews_EU.2" }
    }
  }

  override_resource {
    target          = aws_iam_policy.connect["eu"]
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:policy/of-the-other" }
  }

  assert {
    condition     = { for name, user in aws_elasticache_user.spider : name => user.user_id } == { posts = "post-dedup-posts", eu = "post-dedup-eu" }
    error_message = "One user for each, and none for all."
  }
  assert {
    condition     = alltrue([for user in aws_elasticache_user.spider : user.user_name == user.user_id && one(user.authentication_mode).type == "iam"])
    error_message = "They log in by IAM."
  }
  assert {
    # docs/security.md, Namespaces; tests/house/test_terraform_access.py compares them.
    condition     = aws_elasticache_user.spider["posts"].access_string == replace(trimspace(file("tests/golden/access_string.txt")), "~vd1:*", "~vd1:{posts}* ~vd1:{posts:* ~vd1:{posts+*")
    error_message = "The keys of the namespace, and of no other; the same commands."
  }
  assert {
    condition     = strcontains(aws_elasticache_user.spider["eu"].access_string, "~vd1:{Reviews_EU.2}* ~vd1:{Reviews_EU.2:* ~vd1:{Reviews_EU.2+*") && !strcontains(aws_elasticache_user.spider["eu"].access_string, "~vd1:*")
    error_message = "A namespace may have another name than its user."
  }
  assert {
    condition     = aws_elasticache_user_group.spiders[0].user_ids == toset(["post-dedup-posts", "post-dedup-eu"])
    error_message = "The group holds these users, and no other."
  }
  assert {
    condition     = { for attached in aws_iam_role_policy_attachment.connect : attached.role => attached.policy_arn } == { spiders = aws_iam_policy.connect["posts"].arn, night-shift = aws_iam_policy.connect["posts"].arn }
    error_message = "A role gets the policy of its own namespace."
  }
  assert {
    condition     = { for name, policy in aws_iam_policy.connect : name => policy.name } == { posts = "post-dedup-posts-connect", eu = "post-dedup-eu-connect" }
    error_message = "A policy for each."
  }
  assert {
    condition     = output.access_strings["eu"] == aws_elasticache_user.spider["eu"].access_string && output.users["eu"].namespace == "Reviews_EU.2"
    error_message = "The outputs tell of each."
  }
  assert {
    # Twice in one file would be wrong: a block for each, in the order of the names.
    condition     = length(regexall("(?m)^VALKEY_DEDUP_NAMESPACE = \"(?:Reviews_EU.2|posts)\"$", output.scrapy_settings)) == 2 && length(regexall("(?m)^    \"user\": \"post-dedup-(?:eu|posts)\",$", output.scrapy_settings)) == 2
    error_message = "The settings are those of each namespace."
  }
}

run "users_with_passwords_join_the_group" {
  command = plan

  variables {
    password_user_ids = ["post-dedup-outside"]
  }

  assert {
    condition     = aws_elasticache_user_group.spiders[0].user_ids == toset(["post-dedup-spider", "post-dedup-outside"])
    error_message = "Users made elsewhere may connect."
  }
  assert {
    # Whatever Terraform is told of a password, its state shows.
    condition     = one(aws_elasticache_user.spider["spider"].authentication_mode).type == "iam" && alltrue([for file in fileset(".", "*.tf") : !can(regex("(?m)^[^#\"\n]*\\bpasswords?\\b[^\"\n]*=", file(file)))])
    error_message = "No password goes through the module."
  }
}
