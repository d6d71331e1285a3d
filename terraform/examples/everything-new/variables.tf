variable "region" {
  description = "Where everything is made."
  type        = string
  default     = "us-east-1"
}

variable "zones" {
  description = "Two or three availability zones of the region, by their names. None: the first two that it offers."
  type        = list(string)
  default     = null
}

variable "name" {
  description = "Name of the cache, and the beginning of every other name."
  type        = string
  default     = "post-dedup"
}

variable "alarm_email" {
  description = "Who is told of alarms and of the budget. None: nobody."
  type        = string
  default     = null
}

variable "monthly_budget_usd" {
  description = "What ElastiCache may cost in a month, in US dollars."
  type        = number
  default     = 100
}
