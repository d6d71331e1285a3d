# Who reaches the cache (security group), as whom (user, IAM), and what they may do there (access string).

locals {
  port = 6379

  # The least-privilege line of docs/security.md, word for word: tests/test_terraform_access.py compares them, and
  # crawls under it. It has no password: IAM authenticates.
  access_string = join(" ", [
    "on", "~vd1:*", "-@all",
    "+evalsha", "+script|load", "+get", "+set", "+mget", "+del",
    "+sismember", "+scard", "+sadd", "+srem", "+pexpireat", "+pexpiretime", "+pttl",
  ])

  # For IAM the user's id and name must be the same.
  user_name = "${var.name}-spider"
}

# Without egress rules: the cache answers, and calls nobody.
resource "aws_security_group" "cache" {
  name        = "${var.name}-cache"
  description = "${var.name}: lets in the spiders, and nobody else"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

# Only 6379. Reads on 6380 come from replicas and lag behind: a post could be stored twice.
resource "aws_vpc_security_group_ingress_rule" "spiders" {
  for_each = var.spider_security_group_ids

  security_group_id            = aws_security_group.cache.id
  referenced_security_group_id = each.value
  description                  = "Valkey for ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  tags                         = local.tags
}

resource "aws_elasticache_user" "spider" {
  user_id       = local.user_name
  user_name     = local.user_name
  engine        = "valkey"
  access_string = local.access_string
  tags          = local.tags

  authentication_mode {
    type = "iam"
  }
}

# A cache without a user group lets in whoever reaches it. A group of Valkey's needs no user "default", so there is none.
resource "aws_elasticache_user_group" "spiders" {
  user_group_id = var.name
  engine        = "valkey"
  user_ids      = [aws_elasticache_user.spider.user_id]
  tags          = local.tags
}

resource "aws_iam_policy" "connect" {
  name        = "${var.name}-connect"
  description = "Connect to ${var.name} as ${local.user_name}"
  policy      = local.connect_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "connect" {
  for_each = var.spider_role_names

  role       = each.value
  policy_arn = aws_iam_policy.connect.arn
}

locals {
  # IAM wants both: the cache, and the user one connects as.
  connect_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid    = "ConnectAsSpider"
      Effect = "Allow"
      Action = ["elasticache:Connect"]
      Resource = [
        aws_elasticache_serverless_cache.this.arn,
        aws_elasticache_user.spider.arn,
      ]
    }]
  })
}
