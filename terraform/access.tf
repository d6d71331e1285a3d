# Who reaches the cache (security group), as whom (user, IAM), and what they may do there (access string).

locals {
  port = 6379

  # The least-privilege line of docs/security.md, word for word: tests/house/test_terraform_access.py compares them, and
  # crawls under it. It has no password: IAM authenticates.
  access_string = join(" ", [
    "on", "~vd1:*", "-@all",
    "+evalsha", "+eval", "+get", "+set", "+mget", "+del",
    "+sismember", "+scard", "+sadd", "+srem", "+pexpireat", "+pexpiretime", "+pttl",
  ])

  # One user for all, or one for each namespace. For IAM a user's id and name must be the same.
  users = !var.create ? {} : length(var.namespaces) == 0 ? {
    spider = { namespace = null, roles = var.spider_role_names, access_string = local.access_string }
    } : {
    for name, given in var.namespaces : name => {
      namespace = coalesce(given.namespace, name)
      roles     = given.role_names
      # The keys of this namespace, and of no other: docs/security.md, Namespaces.
      access_string = replace(local.access_string, "~vd1:*", join(" ", [
        for end in ["}*", ":*", "+*"] : "~vd1:{${coalesce(given.namespace, name)}${end}"
      ]))
    }
  }
  user_names = { for name, user in local.users : name => "${var.name}-${name}" }

  attachments = merge([
    for name, user in local.users : { for role in user.roles : "${name}/${role}" => { user = name, role = role } }
  ]...)
}

# Without egress rules: the cache answers, and calls nobody.
resource "aws_security_group" "cache" {
  count = var.create ? 1 : 0

  name        = "${var.name}-cache"
  description = "${var.name}: lets in the spiders, and nobody else"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

# Only 6379. Reads on 6380 come from replicas and lag behind: a post could be stored twice.
resource "aws_vpc_security_group_ingress_rule" "spiders" {
  for_each = var.create ? var.spider_security_group_ids : {}

  security_group_id            = aws_security_group.cache[0].id
  referenced_security_group_id = each.value
  description                  = "Valkey for ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "networks" {
  for_each = var.create ? var.spider_cidrs : {}

  security_group_id = aws_security_group.cache[0].id
  cidr_ipv4         = each.value
  description       = "Valkey for ${each.key}"
  ip_protocol       = "tcp"
  from_port         = local.port
  to_port           = local.port
  tags              = local.tags
}

resource "aws_elasticache_user" "spider" {
  for_each = local.users

  user_id       = local.user_names[each.key]
  user_name     = local.user_names[each.key]
  engine        = "valkey"
  access_string = each.value.access_string
  tags          = local.tags

  authentication_mode {
    type = "iam"
  }
}

# A cache without a user group lets in anyone who reaches it. A group of Valkey's needs no user "default", so there is none.
# Users with passwords are made elsewhere, and only named here: whatever Terraform makes, its state shows.
resource "aws_elasticache_user_group" "spiders" {
  count = var.create ? 1 : 0

  user_group_id = var.name
  engine        = "valkey"
  user_ids      = concat(values(aws_elasticache_user.spider)[*].user_id, tolist(var.password_user_ids))
  tags          = local.tags
}

resource "aws_iam_policy" "connect" {
  for_each = local.users

  name        = "${local.user_names[each.key]}-connect"
  description = "Connect to ${var.name} as ${local.user_names[each.key]}"
  policy      = local.connect_policies[each.key]
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "connect" {
  for_each = local.attachments

  role       = each.value.role
  policy_arn = aws_iam_policy.connect[each.value.user].arn
}

locals {
  # IAM wants both: the cache, and the user one connects as.
  connect_policies = {
    for name, user in aws_elasticache_user.spider : name => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid    = "ConnectAsSpider"
        Effect = "Allow"
        Action = ["elasticache:Connect"]
        Resource = [
          aws_elasticache_serverless_cache.this[0].arn,
          user.arn,
        ]
      }]
    })
  }
}
