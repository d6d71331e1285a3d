variable "create" {
  description = <<-EOT
    Whether anything is made at all, for callers that switch the cache off with a variable of their own. Off, vpc_id and
    subnet_ids may be null. A cache that is there is not removed by it: that plan is refused.
  EOT
  type        = bool
  default     = true
  nullable    = false
}

# ---- Names

variable "name" {
  description = <<-EOT
    Name of the cache, and the beginning of every other name. In lower case: IAM tokens are signed for it. Another
    name is another cache, so a later change is refused.
  EOT
  type        = string
  default     = "post-dedup"
  nullable    = false

  validation {
    # 40 characters are allowed, and the user's name is this one and "-spider"; namespaces has its own check.
    condition     = can(regex("^[a-z][a-z0-9-]{0,32}$", var.name)) && !can(regex("--|-$", var.name))
    error_message = "name: 1 to 33 lower-case letters, digits and hyphens; a letter first, no hyphen last, no two in a row."
  }
}

variable "description" {
  description = "What the cache is for, shown in the console."
  type        = string
  default     = "post dedup pipeline"
  nullable    = false

  validation {
    condition     = length(var.description) <= 255 && !can(regex("[<>]", var.description))
    error_message = "description: at most 255 characters, without < and >."
  }
}

variable "tags" {
  description = "Tags of everything that can have tags."
  type        = map(string)
  default     = {}
  nullable    = false
}

# ---- Network

variable "vpc_id" {
  description = "The VPC of the spiders."
  type        = string

  validation {
    condition     = !var.create || can(regex("^vpc-", var.vpc_id))
    error_message = "vpc_id: the id of a VPC, which begins with vpc-."
  }
}

variable "subnet_ids" {
  description = <<-EOT
    Two or three private subnets of the VPC, each in an availability zone of its own. Other subnets are another cache,
    so a later change is refused.
  EOT
  type        = list(string)

  validation {
    condition     = !var.create || try(length(var.subnet_ids) >= 2 && length(var.subnet_ids) <= 3, false)
    error_message = "subnet_ids: two or three subnets, each in an availability zone of its own."
  }

  validation {
    condition     = !var.create || alltrue([for id in coalesce(var.subnet_ids, []) : can(regex("^subnet-", id))])
    error_message = "subnet_ids: ids of subnets, which begin with subnet-."
  }
}

variable "check_subnets" {
  description = <<-EOT
    Ask AWS about the subnets, and refuse any that is not private (its route table leads to an internet gateway), lies
    in another VPC or shares its availability zone with another one. Off for a plan without credentials, and where the
    VPC is another account's: only its owner may read route tables.
  EOT
  type        = bool
  default     = true
  nullable    = false
}

variable "spider_security_group_ids" {
  description = <<-EOT
    The security groups of the spiders, by names of your choice; nobody else reaches the cache. A map, because the ids
    may be unknown until apply: { spiders = aws_security_group.spiders.id }.
  EOT
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !var.create || length(var.spider_security_group_ids) + length(var.spider_cidrs) > 0
    error_message = "spider_security_group_ids: at least one group here or one network in spider_cidrs, or no spider can reach the cache."
  }

  validation {
    condition     = alltrue([for id in values(var.spider_security_group_ids) : startswith(id, "sg-")])
    error_message = "spider_security_group_ids: ids of security groups, which begin with sg-."
  }
}

variable "spider_cidrs" {
  description = <<-EOT
    Networks of spiders that have no security group in this VPC, by names of your choice, as IPv4 CIDR: those behind a
    VPN, a peering or a transit gateway. { office = "10.8.0.0/24" }.
  EOT
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    # The first address, as AWS keeps it: otherwise every plan shows a change.
    condition     = alltrue([for cidr in values(var.spider_cidrs) : can(regex("^[0-9.]+/[0-9]+$", cidr)) && try(cidrsubnet(cidr, 0, 0) == cidr, false)])
    error_message = "spider_cidrs: networks such as 10.8.0.0/24, each by its first address."
  }

  validation {
    condition     = alltrue([for cidr in values(var.spider_cidrs) : try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "spider_cidrs: /8 or smaller; nothing that lets in the world."
  }
}

# ---- Who connects

variable "spider_role_names" {
  description = <<-EOT
    IAM roles of the spiders, which get the policy that lets them connect. None: attach the policy in the output users
    yourself. With namespaces the roles are named there.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.spider_role_names : can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", name))])
    error_message = "spider_role_names: names of roles, not ARNs."
  }
}

variable "namespaces" {
  description = <<-EOT
    A user for each namespace, who can touch no other, instead of one for all: by the ends of their names,
    { news = { role_names = ["news-spiders"] }, eu = { namespace = "Reviews_EU" } }. namespace is VALKEY_DEDUP_NAMESPACE
    as the plugin sees it, with {bot} and {spider} filled in; none: the key. role_names are the IAM roles that may
    connect as this user.
  EOT
  type = map(object({
    namespace  = optional(string)
    role_names = optional(set(string), [])
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.namespaces) : can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", name)) && length("${var.name}-${name}") <= 40])
    error_message = "namespaces: keys of lower-case letters, digits and single hyphens; with name and a hyphen before it, at most 40 characters."
  }

  validation {
    # Others stand in the keys as a digest, which no pattern can name.
    condition     = alltrue([for name, given in var.namespaces : can(regex("^[A-Za-z0-9._-]{1,64}$", coalesce(given.namespace, name)))])
    error_message = "namespaces: a namespace of 1 to 64 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = alltrue(flatten([for given in values(var.namespaces) : [for name in given.role_names : can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", name))]]))
    error_message = "namespaces: names of roles, not ARNs."
  }

  validation {
    condition     = length(var.spider_role_names) == 0 || length(var.namespaces) == 0
    error_message = "namespaces: with them there is no user for all, so name the roles here and none in spider_role_names."
  }
}

variable "password_user_ids" {
  description = <<-EOT
    Ids of ElastiCache users with passwords, for spiders that have no role; they join the user group. Made outside this
    module, so that no password is in its state: README.md, Spiders outside AWS.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.password_user_ids : can(regex("^[a-zA-Z]([a-zA-Z0-9-]*[a-zA-Z0-9])?$", id)) && id != "default"])
    error_message = "password_user_ids: ids of users, not ARNs; and not default, who may do anything."
  }
}

# ---- The cache

variable "major_engine_version" {
  description = "Major version of Valkey. Terraform can change it only by replacing the cache, which is refused: README.md, Upgrade."
  type        = string
  default     = "8"
  nullable    = false

  validation {
    condition     = contains(["7", "8", "9"], var.major_engine_version)
    error_message = "major_engine_version: \"7\", \"8\" or \"9\"; a serverless cache names the major version alone."
  }
}

variable "storage_maximum_gb" {
  description = "Limit of storage, in GB. At the limit AWS evicts keys, and evicted posts are stored again: the alarms come first."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.storage_maximum_gb >= 1 && var.storage_maximum_gb <= 5000 && floor(var.storage_maximum_gb) == var.storage_maximum_gb
    error_message = "storage_maximum_gb: a whole number from 1 to 5000."
  }
}

variable "storage_minimum_gb" {
  description = "Storage that is kept ready, and paid for, in GB. None: AWS's own minimum, 100 MB."
  type        = number
  default     = null

  validation {
    condition = var.storage_minimum_gb == null ? true : (
      var.storage_minimum_gb >= 1
      && var.storage_minimum_gb <= var.storage_maximum_gb
      && floor(var.storage_minimum_gb) == var.storage_minimum_gb
    )
    error_message = "storage_minimum_gb: a whole number from 1 to storage_maximum_gb, or null."
  }
}

variable "ecpu_maximum_per_second" {
  description = "Limit of processing, in ECPU a second. At the limit AWS throttles: spiders wait, and store unchecked after VALKEY_DEDUP_TIMEOUT."
  type        = number
  default     = 5000
  nullable    = false

  validation {
    condition     = var.ecpu_maximum_per_second >= 1000 && var.ecpu_maximum_per_second <= 15000000 && floor(var.ecpu_maximum_per_second) == var.ecpu_maximum_per_second
    error_message = "ecpu_maximum_per_second: a whole number from 1000 to 15000000."
  }
}

variable "ecpu_minimum_per_second" {
  description = "Processing that is kept ready, and paid for, in ECPU a second, for fleets that start all at once. None: AWS scales by itself."
  type        = number
  default     = null

  validation {
    condition = var.ecpu_minimum_per_second == null ? true : (
      var.ecpu_minimum_per_second >= 1000
      && var.ecpu_minimum_per_second <= var.ecpu_maximum_per_second
      && floor(var.ecpu_minimum_per_second) == var.ecpu_minimum_per_second
    )
    error_message = "ecpu_minimum_per_second: a whole number from 1000 to ecpu_maximum_per_second, or null."
  }
}

variable "timeouts" {
  description = <<-EOT
    How long Terraform waits for the cache: { create = "40m", update = "80m", delete = "40m" }. None: the times of the
    provider, which are these.
  EOT
  type = object({
    create = optional(string)
    update = optional(string)
    delete = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for time in values(var.timeouts) : time == null ? true : can(regex("^([0-9]+[hms])+$", time))])
    error_message = "timeouts: durations such as 40m or 1h30m."
  }
}

variable "snapshot_time" {
  description = "When the daily snapshot begins, HH:MM in UTC."
  type        = string
  default     = "09:00"
  nullable    = false

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.snapshot_time))
    error_message = "snapshot_time: HH:MM, from 00:00 to 23:59."
  }
}

variable "snapshot_retention_days" {
  description = "How many days a snapshot is kept."
  type        = number
  default     = 3
  nullable    = false

  validation {
    # Not 0, which is no snapshot at all: what is lost then are all posts that were ever seen.
    condition     = var.snapshot_retention_days >= 1 && var.snapshot_retention_days <= 35 && floor(var.snapshot_retention_days) == var.snapshot_retention_days
    error_message = "snapshot_retention_days: a whole number from 1 to 35."
  }
}

variable "restore_from_snapshot_arns" {
  description = "Snapshots that fill a new cache. Read only when the cache is made; a later change does nothing."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.restore_from_snapshot_arns : can(regex("^arn:[a-z-]+:(elasticache|s3):", arn))])
    error_message = "restore_from_snapshot_arns: ARNs of ElastiCache snapshots, or of RDB files in S3."
  }
}

# ---- The key

variable "create_key" {
  description = <<-EOT
    Whether the module makes the KMS key of cache and snapshots. If not, the key is the one in kms_key_arn. Another key
    is another cache, so a later change is refused.
  EOT
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = <<-EOT
    With create_key = false: the ARN of a KMS key of your own, whose policy lets ElastiCache use it as the module's own
    key does. None: the key is owned by AWS, costs nothing, and shows in no account.
  EOT
  type        = string
  default     = null

  validation {
    # An alias's ARN would be read back as the key's: another key, and so another cache.
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn: the ARN of a key (arn:...:key/...), not of an alias; or null."
  }

  validation {
    condition     = var.kms_key_arn == null || !var.create_key
    error_message = "kms_key_arn: set create_key = false with it, or the module makes a key of its own."
  }
}

variable "key_administrator_arns" {
  description = <<-EOT
    IAM principals that may administer the KMS key; they cannot decrypt with it. Name the role that runs Terraform
    too, or it locks itself out. None: whomever the account's own IAM policies allow.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.key_administrator_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:[^*]+$", arn))])
    error_message = "key_administrator_arns: ARNs of IAM roles or users, without wildcards."
  }
}

variable "key_deletion_days" {
  description = "Days between the order to delete the KMS key and its end; with it every snapshot becomes unreadable."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30
    error_message = "key_deletion_days: from 7 to 30."
  }
}

# ---- Alarms and costs

variable "alarm_topic_arn" {
  description = "SNS topic that hears of alarms, and of their end. None: the alarms change colour and tell nobody."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null ? true : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:.+$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn: the ARN of an SNS topic, or null."
  }
}

variable "alarm_percent" {
  description = "Share of the limits of storage and ECPU at which the alarm goes off, in percent."
  type        = number
  default     = 75
  nullable    = false

  validation {
    condition     = var.alarm_percent >= 1 && var.alarm_percent <= 95
    error_message = "alarm_percent: from 1 to 95; beyond that there is no time left to act."
  }
}

variable "alarm_latency_ms" {
  description = "Average time of a request over five minutes at which the alarm goes off, in milliseconds."
  type        = number
  default     = 10
  nullable    = false

  validation {
    # A question of the plugin has 5 seconds, all attempts included.
    condition     = var.alarm_latency_ms >= 1 && var.alarm_latency_ms <= 2000
    error_message = "alarm_latency_ms: from 1 to 2000."
  }
}

variable "alarm_script_ms" {
  description = "Average time of a script call at the server, as its ECPU tell, at which the alarm goes off, in milliseconds."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.alarm_script_ms > 0 && var.alarm_script_ms <= 2000
    error_message = "alarm_script_ms: more than 0, and at most 2000."
  }
}

variable "monthly_budget_usd" {
  description = "What ElastiCache may cost in a month, in US dollars. None: no budget."
  type        = number
  default     = null

  validation {
    condition     = var.monthly_budget_usd == null ? true : var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd: more than 0, or null."
  }

  validation {
    condition     = var.monthly_budget_usd == null || length(var.budget_emails) > 0
    error_message = "monthly_budget_usd: name somebody in budget_emails, or nobody hears of it."
  }
}

variable "budget_emails" {
  description = "Who hears of the budget: at 80 % spent, and when more than all of it is forecast."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.budget_emails) <= 10 && alltrue([for email in var.budget_emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "budget_emails: at most ten e-mail addresses."
  }
}
